"""From a request to an identity that may do what it asks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Annotated, Any

from fastapi import Depends, Request

from memory_operator.contract.provider import GROUP
from memory_operator.http.auth.base import JOBS, READ, READ_MEMORIES, Authenticator, Identity, Permission
from memory_operator.http.problems import Problem
from memory_operator.http.services import Services
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import TENANT


def services_of(request: Request) -> Services:
    """The services of the app that answers."""
    found: Services = request.app.state.services
    return found


async def known_parameters(request: Request) -> None:
    """Raise a 400 problem for a query parameter that the route does not have: a misspelt one would change nothing.

    A coroutine, as FastAPI runs a plain function in a thread, which costs more than it does.
    """
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        hint = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
        raise Problem(400, "invalid_request", f"{unknown[0][:100]}: unknown query parameter", hint=hint)


async def identify(request: Request) -> Identity:
    """The caller, whose tenant is worked for from now on. Raises Problem."""
    identity = await _auth(request).identify(request)
    TENANT.set(identity.tenant)
    return identity


Known = Annotated[Identity, Depends(identify)]
"""A parameter of a route: somebody we know. It stands before the body, which nobody else's is read."""


def permitted(permission: Permission) -> Callable[[Request, Identity], Coroutine[Any, Any, Identity]]:
    """A dependency: the caller, who has a permission in the tenant's own namespace. Raises Problem."""

    async def caller(request: Request, identity: Known) -> Identity:
        await require(request, identity, permission, identity.namespace)
        return identity

    return caller


async def may(request: Request, identity: Identity, permission: Permission, namespace: str | None) -> bool:
    """Whether a caller has a permission in a namespace, or everywhere when it is None."""
    return await _auth(request).may(identity, permission, namespace)


async def require(request: Request, identity: Identity, permission: Permission, namespace: str | None) -> None:
    """Raise a 403 problem unless a caller has a permission in a namespace, or everywhere when it is None."""
    if not await may(request, identity, permission, namespace):
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        raise Problem(
            403,
            "forbidden",
            f"{identity.name} may not {permission.verb} {permission.what} {where}",
            hint=f"bind a role that allows the verb {permission.verb} on {permission.what} of {GROUP} {where}"
            f" (in a tokens file: the right {permission.name})",
        )


async def namespaces_with(
    request: Request, identity: Identity, permission: Permission, candidates: Iterable[str]
) -> frozenset[str]:
    """Those of some namespaces in which a caller has a permission.

    Raises a 403 problem when it is none of them; where there are none to choose from, the tenant's own counts.
    """
    ordered = sorted(set(candidates))
    found = frozenset([name for name in ordered if await may(request, identity, permission, name)])
    if not found:
        await require(request, identity, permission, ordered[0] if ordered else identity.namespace)
    return found


async def require_in_all(
    request: Request, identity: Identity, permission: Permission, namespaces: Iterable[str]
) -> None:
    """Raise a 403 problem unless a caller has a permission in each of some namespaces; in the tenant's own for none."""
    ordered: list[str | None] = [*sorted(set(namespaces))]
    for namespace in ordered or [identity.namespace]:
        await require(request, identity, permission, namespace)


async def readable(request: Request, identity: Identity) -> frozenset[str]:
    """The namespaces whose Providers, and their spaces, a caller may look at. Raises a 403 problem when there are none.

    Looking needs what `kubectl get providers` needs.
    """
    return await namespaces_with(request, identity, READ, await services_of(request).catalog.namespaces())


async def tenant_told_of(request: Request, identity: Identity) -> str | None:
    """Whose memories a caller may hear of; None: everybody's. Raises a 403 problem."""
    if await may(request, identity, JOBS, None):
        return None
    await require(request, identity, READ_MEMORIES, identity.namespace)
    return identity.tenant


def actor(request: Request, identity: Identity) -> Actor:
    """Who did something, and from which address."""
    return Actor(identity.name, request.client.host if request.client else "unknown")


def _auth(request: Request) -> Authenticator:
    found: Authenticator = request.app.state.auth
    return found
