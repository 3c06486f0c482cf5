"""From a request to an identity that may do what it asks."""

from __future__ import annotations

from fastapi import Request

from memory_operator.http.auth import Authenticator, Identity, Right
from memory_operator.http.problems import Problem
from memory_operator.http.services import Services
from memory_operator.store.activity import Actor


def services_of(request: Request) -> Services:
    """The services of the app that answers."""
    found: Services = request.app.state.services
    return found


async def identify(request: Request) -> Identity:
    """The caller. Raises Problem."""
    auth: Authenticator = request.app.state.auth
    return await auth.identify(request)


async def demand(request: Request, identity: Identity, right: Right, namespace: str | None) -> None:
    """Raise a 403 problem unless a caller has a right."""
    auth: Authenticator = request.app.state.auth
    if not await auth.may(identity, right, namespace):
        what = f"{right.resource}/{right.subresource}" if right.subresource else right.resource
        where = f"namespace {namespace}" if namespace else "all namespaces"
        raise Problem(
            403,
            "forbidden",
            f"{identity.name} may not {right.verb} {what} in {where}",
            hint=f"bind a role that allows {right.verb} on {what} there (right {right.name} in a tokens file)",
        )


async def with_right(request: Request, right: Right) -> Identity:
    """The caller, who has a right in the tenant's own namespace."""
    identity = await identify(request)
    await demand(request, identity, right, identity.namespace)
    return identity


def actor(request: Request, identity: Identity) -> Actor:
    """Who did something, and from which address."""
    return Actor(identity.name, request.client.host if request.client else "unknown")
