"""Consent to a destructive change: recorded, listed, withdrawn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from memory_operator.engine.consents import Recorded
from memory_operator.http.auth import CONSENT, LOOK
from memory_operator.http.bodies import ConsentBody, documented, read
from memory_operator.http.documents import PROBLEMS, json_answer
from memory_operator.http.rights import actor, demand, identify, services_of
from memory_operator.plan.consent import CONSENT_PATH, Marker
from memory_operator.plan.cost import Effect
from memory_operator.store.providers import PendingChange

router = APIRouter(prefix=CONSENT_PATH, tags=["consent"])


@router.post("", responses=PROBLEMS, openapi_extra=documented(ConsentBody))
async def record(request: Request, body: Annotated[ConsentBody, Depends(read(ConsentBody))]) -> Response:
    """Allow one change to exactly this dimension, once."""
    identity = await identify(request)
    consents = services_of(request).consents
    for namespace in await _namespaces(request, body.target_dim, body.provider):
        await demand(request, identity, CONSENT, namespace)
    recorded = await consents.record(
        body.target_dim, body.provider, timedelta(seconds=body.ttl_seconds), actor(request, identity)
    )
    return json_answer(_recorded(recorded))


@router.get("", responses=PROBLEMS)
async def listed(request: Request) -> Response:
    """The changes that wait for consent, and the newest markers."""
    identity = await identify(request)
    await demand(request, identity, LOOK, identity.namespace)
    consents = services_of(request).consents
    now = datetime.now(UTC)
    return json_answer(
        {
            "held": [held_document(change) for change in await consents.held()],
            "markers": [_marker(marker, now) for marker in await consents.markers()],
        }
    )


@router.delete("/{marker_id}", status_code=204, responses=PROBLEMS)
async def withdraw(
    request: Request, marker_id: Annotated[int, Path(ge=1, le=2**63 - 1, description="Id of the marker.")]
) -> Response:
    """Withdraw a marker that is not consumed yet."""
    identity = await identify(request)
    marker = await services_of(request).consents.marker(marker_id)
    for namespace in await _namespaces(request, marker.target_dim, marker.provider):
        await demand(request, identity, CONSENT, namespace)
    await services_of(request).consents.withdraw(marker_id, actor(request, identity))
    return Response(status_code=204)


async def _namespaces(request: Request, target_dim: int, provider: str | None) -> list[str | None]:
    """Where the caller needs the right: the Provider's namespace; that of each held one; everywhere when none is."""
    if provider is not None:
        return [provider.partition("/")[0]]
    held = await services_of(request).consents.held()
    found = {change.ref.namespace for change in held if change.effect.to_dim == target_dim}
    return [*sorted(found)] if found else [None]


def held_document(change: PendingChange) -> dict[str, Any]:
    """One held change."""
    return {
        "provider": str(change.ref),
        **effect_document(change.effect),
        "marker": change.marker,
        "since": change.since,
        "message": change.message,
    }


def effect_document(effect: Effect) -> dict[str, Any]:
    """What a held change would do."""
    return {
        "from": effect.from_dim,
        "to": effect.to_dim,
        "vectors_discarded": effect.vectors_discarded,
        "chunks_to_embed": effect.chunks_to_embed,
        "estimated_tokens": effect.estimated_tokens,
        "estimated_cost": None if effect.estimated_cost is None else f"{effect.estimated_cost:f}",
        "currency": effect.currency,
    }


def _recorded(recorded: Recorded) -> dict[str, Any]:
    return {
        "status": "consent recorded",
        "target_dim": recorded.marker.target_dim,
        "id": recorded.marker.id,
        "expires_at": recorded.marker.expires_at,
        "matches_held_change": recorded.matches is not None,
        "effect": effect_document(recorded.matches.effect) if recorded.matches else None,
    }


def _marker(marker: Marker, now: datetime) -> dict[str, Any]:
    return {
        "id": marker.id,
        "target_dim": marker.target_dim,
        "provider": marker.provider,
        "state": marker.state(now),
        "created_at": marker.created_at,
        "created_by": marker.created_by,
        "expires_at": marker.expires_at,
        "consumed_at": marker.consumed_at,
        "consumed_by": marker.consumed_by,
        "withdrawn_at": marker.withdrawn_at,
    }
