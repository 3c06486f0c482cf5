"""Whether the API server asks who may activate, when somebody sets the annotation memory-operator/activate.

A ValidatingAdmissionPolicy asks its authorizer, so that no process of ours has to be there for it, and nobody who may
edit a Provider can go round it.
"""

from __future__ import annotations

from typing import Any

from kubernetes.aio.client import ApiClient

from memory_operator.engine.ports.activation import ActivationGuard
from memory_operator.errors import NotFound
from memory_operator.kube.boundary import ApiCall, Forbidden, Manifest, ask

_GROUP = "admissionregistration.k8s.io"
_SECONDS = 5.0

ASKS_THE_AUTHORIZER = (
    "variables.same || authorizer.group('omnia.altairalabs.ai').resource('providers').subresource('activate')"
    ".namespace(object.metadata.namespace).check('create').allowed()"
)
"""The rule of the chart's policy, word for word."""


def activation_guard(api: ApiClient, policy: str) -> ActivationGuard:
    """A function that says why the policy of this name is not in force; None where it is.

    It raises SourceUnavailable.
    """

    async def look() -> str | None:
        if not policy:
            return "no admission policy was named to this operator (--activate-policy)"
        try:
            found = await _read(api, "validatingadmissionpolicies", policy)
            binding = await _read(api, "validatingadmissionpolicybindings", policy)
        except NotFound:
            return f"there is no ValidatingAdmissionPolicy {policy} that is bound"
        except Forbidden as error:
            return error.message
        return _fault(policy, found.get("spec") or {}, binding.get("spec") or {})

    return look


async def _read(api: ApiClient, resource: str, name: str) -> Manifest:
    return await ask(api, ApiCall("get", _GROUP, "v1", resource, name=name), seconds=_SECONDS)


def _fault(name: str, policy: dict[str, Any], binding: dict[str, Any]) -> str | None:
    rules = [each.get("expression") for each in policy.get("validations") or () if isinstance(each, dict)]
    in_force = (
        policy.get("failurePolicy") == "Fail"
        and not policy.get("matchConditions")
        and ASKS_THE_AUTHORIZER in rules
        and binding.get("policyName") == name
        and "Deny" in (binding.get("validationActions") or ())
        and not binding.get("matchResources")
    )
    return None if in_force else f"the ValidatingAdmissionPolicy {name} is not the chart's, or does not deny"
