"""Consent to a destructive change: recorded, listed, withdrawn."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from memory_operator.errors import Conflict
from memory_operator.http.auth.base import CONSENT
from memory_operator.http.auth.permissions import Known, actor, readable, require, services_of
from memory_operator.http.openapi.document import reply, request_body, responses
from memory_operator.http.schemas.consent import (
    ConsentBody,
    ConsentsAnswer,
    EffectAnswer,
    HeldAnswer,
    MarkerAnswer,
    RecordedAnswer,
)
from memory_operator.http.schemas.reading import read
from memory_operator.plan.consent import CONSENT_PATH

router = APIRouter(prefix=CONSENT_PATH, tags=["consent"])


@router.post("", responses=responses(RecordedAnswer, 200, 409), openapi_extra=request_body(ConsentBody))
async def record(
    request: Request, identity: Known, body: Annotated[ConsentBody, Depends(read(ConsentBody))]
) -> Response:
    """Allow one change to exactly this dimension, once."""
    consents = services_of(request).consents
    try:
        provider = await consents.provider_for(body.target_dim, body.provider)
    except Conflict as refused:  # it names Providers: only to who may consent for them
        names = refused.extra.get("providers")
        for namespace in {str(name).partition("/")[0] for name in names} if isinstance(names, list) else [None]:
            await require(request, identity, CONSENT, namespace)
        raise
    await require(request, identity, CONSENT, provider.partition("/")[0])
    recorded = await consents.record(
        body.target_dim, provider, timedelta(seconds=body.ttl_seconds), actor(request, identity)
    )
    return reply(
        RecordedAnswer(
            target_dim=recorded.marker.target_dim,
            id=recorded.marker.id,
            expires_at=recorded.marker.expires_at,
            matches_held_change=recorded.matches is not None,
            effect=EffectAnswer.model_validate(recorded.matches.effect) if recorded.matches else None,
            provider=recorded.marker.provider or provider,
        )
    )


@router.get("", responses=responses(ConsentsAnswer))
async def listed(request: Request, identity: Known) -> Response:
    """The changes that wait for consent, and the newest markers."""
    visible = await readable(request, identity)
    consents = services_of(request).consents
    return reply(
        ConsentsAnswer(
            held=[HeldAnswer.of(change) for change in await consents.held() if change.ref.namespace in visible],
            markers=[
                MarkerAnswer.of(marker)
                for marker in await consents.markers()
                if marker.provider is None or marker.provider.partition("/")[0] in visible
            ],
        )
    )


@router.delete("/{marker_id}", status_code=204, responses=responses(None, 204, 404, 409))
async def withdraw(
    request: Request,
    identity: Known,
    marker_id: Annotated[int, Path(ge=1, le=2**63 - 1, description="Id of the marker.")],
) -> Response:
    """Withdraw a marker that is not consumed yet."""
    consents = services_of(request).consents
    marker = await consents.marker(marker_id)
    for namespace in await _namespaces(request, marker.target_dim, marker.provider):
        await require(request, identity, CONSENT, namespace)
    await consents.withdraw(marker_id, actor(request, identity))
    return Response(status_code=204)


async def _namespaces(request: Request, target_dim: int, provider: str | None) -> list[str | None]:
    """Where the permission is needed: the Provider's namespace; that of each held one; everywhere when none is."""
    if provider is not None:
        return [provider.partition("/")[0]]
    held = await services_of(request).consents.held()
    found = {change.ref.namespace for change in held if change.effect.to_dim == target_dim}
    return [*sorted(found)] if found else [None]
