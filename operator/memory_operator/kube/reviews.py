"""TokenReview and SubjectAccessReview: whose a token is, and what its user may do."""

from __future__ import annotations

from typing import Any

from kubernetes.aio.client import ApiClient

from memory_operator.engine.ports.access import Access, AccessReviewer, Caller, TokenReviewer
from memory_operator.errors import SourceUnavailable
from memory_operator.kube.boundary import ApiCall, Manifest, ask

_SECONDS = 5.0


def token_reviewer(api: ApiClient) -> TokenReviewer:
    """A function bearer token → its user, or None. Nothing is cached here. It raises SourceUnavailable."""

    async def review(token: str) -> Caller | None:
        if not token:
            return None
        status = await _reviewed(api, "authentication.k8s.io", "TokenReview", {"token": token})
        user = status.get("user")
        # There may be an error beside it, as of a second authenticator that cannot be reached.
        if status.get("authenticated") is not True or not isinstance(user, dict) or not user.get("username"):
            return None
        return Caller(
            username=str(user["username"]),
            groups=tuple(str(group) for group in user.get("groups") or ()),
            uid=str(user.get("uid") or ""),
            extra={str(key): tuple(values) for key, values in (user.get("extra") or {}).items()},
        )

    return review


def access_reviewer(api: ApiClient) -> AccessReviewer:
    """A function (caller, access) → whether RBAC allows it. Nothing is cached here. It raises SourceUnavailable."""

    async def review(caller: Caller, access: Access) -> bool:
        attributes = {
            "verb": access.verb,
            "group": access.group,
            "resource": access.resource,
            "subresource": access.subresource,
            "namespace": access.namespace or "",
            "name": access.name or "",
        }
        spec = {
            "user": caller.username,
            "groups": list(caller.groups),
            "uid": caller.uid,
            "extra": {key: list(values) for key, values in caller.extra.items()},
            "resourceAttributes": attributes,
        }
        status = await _reviewed(api, "authorization.k8s.io", "SubjectAccessReview", spec)
        return status.get("allowed") is True and status.get("denied") is not True

    return review


async def _reviewed(api: ApiClient, group: str, kind: str, spec: Manifest) -> dict[str, Any]:
    body = {"apiVersion": f"{group}/v1", "kind": kind, "spec": spec}
    answer = await ask(api, ApiCall("create", group, "v1", f"{kind.lower()}s"), body, seconds=_SECONDS)
    status = answer.get("status")
    if not isinstance(status, dict):
        raise SourceUnavailable(f"the API server answered a {kind} without a status")
    return status
