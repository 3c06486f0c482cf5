"""What this process may watch: Providers everywhere, or those of the served namespaces only."""

from __future__ import annotations

from collections.abc import Sequence

from kubernetes.aio.client import ApiClient

from memory_operator.contract.provider import GROUP, PLURAL
from memory_operator.errors import SourceUnavailable
from memory_operator.kube.boundary import ApiCall, Forbidden, ask

_WATCH_VERBS = ("list", "watch")


async def watched_namespaces(api: ApiClient, served: Sequence[str]) -> tuple[str, ...] | None:
    """The namespaces to watch: None for all of them where RBAC allows that, else the served ones where it does.

    All of them is better: a Provider in a namespace that is not served is then told so. One namespace that may not be
    watched would end the watch of all. Raises SourceUnavailable, also where there is nothing to watch.
    """
    if await _may_watch(api, None):
        return None
    allowed = tuple([namespace for namespace in served if await _may_watch(api, namespace)])
    if not allowed:
        raise SourceUnavailable(
            f"no served namespace may be watched: the ServiceAccount of this process needs {' and '.join(_WATCH_VERBS)}"
            f" on {PLURAL} of {GROUP} in {', '.join(served)}"
        )
    return allowed


async def _may_watch(api: ApiClient, namespace: str | None) -> bool:
    return all([await _may(api, verb, namespace) for verb in _WATCH_VERBS])


async def _may(api: ApiClient, verb: str, namespace: str | None) -> bool:
    attributes = {"verb": verb, "group": GROUP, "resource": PLURAL, "namespace": namespace or ""}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        answer = await ask(api, ApiCall("create", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"), review)
    except Forbidden:
        return namespace is not None  # a cluster that forbids the question: the served namespaces are to be allowed
    return answer.get("status", {}).get("allowed") is True
