"""What this process may watch: Providers everywhere, or those of the served namespaces only."""

from __future__ import annotations

from collections.abc import Sequence

from kubernetes.aio.client import ApiClient

from memory_operator.contract.provider import GROUP, PLURAL
from memory_operator.kube.boundary import ApiCall, Forbidden, ask

_WATCH_VERBS = ("list", "watch")


async def watched_namespaces(api: ApiClient, served: Sequence[str]) -> tuple[str, ...] | None:
    """The namespaces to watch; None for all of them, where RBAC allows that.

    All of them is better: a Provider in a namespace that is not served is then told so. Raises SourceUnavailable.
    """
    everywhere = [await _may(api, verb) for verb in _WATCH_VERBS]
    return None if all(everywhere) else tuple(served)


async def _may(api: ApiClient, verb: str) -> bool:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": verb, "group": GROUP, "resource": PLURAL}},
    }
    try:
        answer = await ask(api, ApiCall("create", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"), review)
    except Forbidden:
        return False  # a cluster that forbids the question: the smaller scope needs no answer
    return answer.get("status", {}).get("allowed") is True
