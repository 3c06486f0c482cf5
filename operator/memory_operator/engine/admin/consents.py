"""Consent over HTTP: recorded, listed, withdrawn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from memory_operator.contract.known_models import column_limit
from memory_operator.errors import Conflict, InvalidInput, NotFound
from memory_operator.plan.consent import Marker
from memory_operator.store.db import activity
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.spaces import consent, providers, spaces
from memory_operator.store.spaces.providers import PendingChange


@dataclass(frozen=True, slots=True)
class Recorded:
    """A marker that was stored, and the held change that it opens."""

    marker: Marker
    matches: PendingChange | None


class Consents:
    """The admin API's half of the gate. One for each event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def held(self) -> list[PendingChange]:
        """The changes that wait, the oldest first."""
        async with self._store.connection() as conn:
            return await providers.pending_changes(conn)

    async def markers(self, limit: int = 100) -> list[Marker]:
        """The newest markers in every state, newest first."""
        async with self._store.connection() as conn:
            return await consent.markers(conn, limit)

    async def marker(self, marker_id: int) -> Marker:
        """One marker. Raises NotFound."""
        async with self._store.connection() as conn:
            return await _known(conn, marker_id)

    async def provider_for(self, target_dim: int, provider: str | None) -> str:
        """The one Provider that a marker would belong to: the one named, else held at it, else the only one.

        Raises InvalidInput (no such dimension), Conflict (ambiguous_provider, no_provider).
        """
        async with self._store.connection() as conn:
            return await _provider_for(conn, target_dim, provider)

    async def record(self, target_dim: int, provider: str | None, ttl: timedelta, by: Actor) -> Recorded:
        """Record consent to one change of one Provider. Raises as `provider_for`."""
        async with self._store.transaction() as conn:
            named = await _provider_for(conn, target_dim, provider)
            held = [change for change in await providers.pending_changes(conn) if change.effect.to_dim == target_dim]
            matches = next((change for change in held if named == str(change.ref)), None)
            marker = await consent.record(conn, target_dim, named, by.name, ttl)
            await activity.record(
                conn, by, "consent", named, target_dim=target_dim, id=marker.id, matches=matches is not None
            )
        return Recorded(marker, matches)

    async def withdraw(self, marker_id: int, by: Actor) -> None:
        """Withdraw a marker. Raises NotFound, Conflict (it is consumed)."""
        async with self._store.transaction() as conn:
            marker = await _known(conn, marker_id)
            if not await consent.withdraw(conn, marker_id):
                raise Conflict(
                    f"consent marker {marker_id} was consumed at {marker.consumed_at or datetime.now(UTC):%F %T}",
                    code="marker_consumed",
                    hint="the change it allowed is done; to go back, change the Provider and consent to that",
                )
            await activity.record(conn, by, "withdraw consent", marker.provider or "", id=marker_id)


async def _known(conn: Conn, marker_id: int) -> Marker:
    marker = await consent.get(conn, marker_id)
    if marker is None:
        raise NotFound(f"there is no consent marker {marker_id}", hint="GET the path without an id lists them")
    return marker


async def _refuse_dimension(conn: Conn, target_dim: int) -> None:
    """4000 is the limit where a Provider asks for a column or an index that goes so far, 2000 elsewhere."""
    wide = any(space.column_type == "halfvec" for space in await spaces.all_spaces(conn))
    largest = max(column_limit("halfvec" if wide else "vector"), await providers.most_dimensions(conn))
    if not 1 <= target_dim <= largest:
        raise InvalidInput(
            f"target_dim must be between 1 and {largest}",
            hint="name the dimension that the held Provider asks for; GET the same path shows it",
        )


async def _provider_for(conn: Conn, target_dim: int, provider: str | None) -> str:
    await _refuse_dimension(conn, target_dim)
    if provider is not None:
        return provider
    targeting = await providers.providers_targeting(conn, target_dim)
    names = [str(ref) for ref in targeting or await providers.live(conn)]
    if len(names) == 1:
        return names[0]
    if not names:
        raise Conflict(
            "there is no Provider that a consent could be for",
            code="no_provider",
            hint='apply one first, or name the one to come, as in {"target_dim": …, "provider": "namespace/name"}',
        )
    what = f"held at dimension {target_dim}" if targeting else f"there, and none is held at dimension {target_dim}"
    raise Conflict(
        f"several Providers are {what}: {', '.join(names)}",
        code="ambiguous_provider",
        hint='name one of them, as in {"target_dim": …, "provider": "namespace/name"}',
        extra={"providers": names},
    )
