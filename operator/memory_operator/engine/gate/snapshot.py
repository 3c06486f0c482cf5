"""What is stored of Providers, read at one moment: everything that a decision or a status needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from memory_operator.contract.resource import ProviderObject, ProviderRef
from memory_operator.engine.gate.remedies import Checks, read_checks
from memory_operator.plan.consent import Consent, look_for_consent
from memory_operator.plan.coverage import coverage
from memory_operator.plan.decide import Existing, SpaceNow
from memory_operator.plan.space import SpaceConfig
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import jobs, quarantine
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.spaces import claims, consent, gates, providers, registry, spaces
from memory_operator.store.spaces.gates import GateResult
from memory_operator.store.spaces.providers import PendingChange, ProviderRow
from memory_operator.store.spaces.registry import Registry
from memory_operator.store.spaces.spaces import Space


@dataclass(frozen=True, slots=True)
class StoredState:
    """A Provider's row, its spaces and their figures."""

    row: ProviderRow | None
    applied: Space | None
    beside: Space | None
    registry: Registry
    counted: Mapping[int, int]
    quarantined: Mapping[int, int]
    jobs: Mapping[int, Job]
    last_errors: Mapping[int, tuple[str, str]]
    pending: PendingChange | None
    gate: GateResult | None = None
    """What came out where the space beside was measured."""
    kept: Sequence[Space] = ()
    """Spaces that edits replaced and that still get vectors: kept for a while, or gone back to."""
    checks: Checks = field(default_factory=Checks)
    """What is wrong with the models of its spaces."""

    @property
    def chunks(self) -> int:
        """Live chunks in the store."""
        return self.counted.get(registry.CHUNKS, 0)

    def covered(self, space: Space) -> float:
        """Coverage of a space."""
        return coverage(self.counted.get(space.id, 0), self.chunks, self.quarantined.get(space.id, 0))


async def read_state(conn: Conn, ref: ProviderRef) -> StoredState:
    """What is stored of one Provider; nothing of any other is read."""
    row = await providers.get(conn, ref)
    ids = _space_ids([row] if row else [])
    found = {space.id: space for space in await spaces.of_provider(conn, ref, ids)}
    return _state(
        row,
        found,
        await registry.read(conn),
        await _figures(conn, ids),
        await providers.pending_change(conn, ref),
    )


async def read_states(conn: Conn) -> dict[ProviderRef, StoredState]:
    """What is stored of every Provider, in as many statements as for one."""
    rows = await providers.all_rows(conn)
    found = {space.id: space for space in await spaces.all_spaces(conn)}
    now = await registry.read(conn)
    figures = await _figures(conn, None)
    pending = {change.ref: change for change in await providers.pending_changes(conn)}
    return {row.ref: _state(row, found, now, figures, pending.get(row.ref)) for row in rows}


@dataclass(frozen=True, slots=True)
class _Figures:
    counted: Mapping[int, int]
    quarantined: Mapping[int, int]
    jobs: Mapping[int, Job]
    last_errors: Mapping[int, tuple[str, str]]
    checks: Checks
    gates: Mapping[int, GateResult]


async def _figures(conn: Conn, space_ids: Sequence[int] | None) -> _Figures:
    return _Figures(
        await registry.counted(conn, None if space_ids is None else [registry.CHUNKS, *space_ids]),
        await quarantine.counted(conn, space_ids),
        await jobs.latest(conn, space_ids),
        await jobs.last_errors(conn, space_ids),
        await read_checks(conn, space_ids),
        await gates.results(conn, None if space_ids is None else list(space_ids)),
    )


def _space_ids(rows: Sequence[ProviderRow]) -> list[int]:
    return [each for row in rows for each in (row.applied_space_id, row.beside_space_id) if each is not None]


def _state(
    row: ProviderRow | None,
    found: Mapping[int, Space],
    now: Registry,
    figures: _Figures,
    pending: PendingChange | None,
) -> StoredState:
    ids = _space_ids([row] if row else [])
    return StoredState(
        row,
        found.get(row.applied_space_id or 0) if row else None,
        found.get(row.beside_space_id or 0) if row else None,
        now,
        figures.counted,
        figures.quarantined,
        figures.jobs,
        figures.last_errors,
        pending,
        figures.gates.get(row.beside_space_id or 0) if row else None,
        [each for each in found.values() if row and each.ref == row.ref and each.gets_vectors and each.id not in ids],
        figures.checks,
    )


@dataclass(frozen=True, slots=True)
class View:
    """A Provider's stored state with regard to one configuration: whose that space is, and the consent to it."""

    stored: StoredState
    row: ProviderRow
    existing: Existing | None
    consent: Consent

    @property
    def applied(self) -> Space | None:
        """The space that the Provider has."""
        return self.stored.applied

    @property
    def beside(self) -> Space | None:
        """The space that is filled beside it."""
        return self.stored.beside

    @property
    def vectors(self) -> int:
        """Vectors in the applied space."""
        return self.stored.counted.get(self.applied.id, 0) if self.applied else 0

    @property
    def applied_now(self) -> SpaceNow | None:
        """The applied space, as a decision sees it."""
        return self._now(self.applied)

    @property
    def beside_now(self) -> SpaceNow | None:
        """The space beside it, as a decision sees it."""
        return self._now(self.beside)

    def _now(self, space: Space | None) -> SpaceNow | None:
        if space is None:
            return None
        return SpaceNow(space.id, space.config, space.distance, self.stored.counted.get(space.id, 0))


def _unseen(provider: ProviderObject) -> ProviderRow:
    """The row that a Provider would have which no operator has seen yet."""
    return ProviderRow(
        ref=provider.ref,
        uid=provider.uid,
        generation=provider.generation,
        created_at=provider.created_at,
        absent_since=None,
        applied_space_id=None,
        beside_space_id=None,
        activation="Automatic",
        status=None,
        wanted_identity=None,
    )


async def read_view(store: Store, provider: ProviderObject, config: SpaceConfig) -> View:
    """The view of one Provider with regard to what it asks for."""
    async with store.connection() as conn:
        stored = await read_state(conn, provider.ref)
        row = stored.row or _unseen(provider)
        targeting = {*await providers.providers_targeting(conn, config.dimensions), provider.ref}
        return View(
            stored,
            row,
            await _existing(conn, row, stored.applied, config),
            look_for_consent(
                await consent.markers_for(conn, provider.ref), str(provider.ref), config.dimensions, len(targeting)
            ),
        )


async def _existing(conn: Conn, row: ProviderRow, applied: Space | None, config: SpaceConfig) -> Existing | None:
    """The space of the desired identity, where this Provider does not have it already."""
    space = await spaces.by_identity(conn, config.identity)
    if space is None or space.id in (row.applied_space_id, row.beside_space_id):
        return None
    owner = await claims.live_owner(conn, space.id, row.ref)
    if owner is not None:
        ref, wanted = owner
        return Existing(space.id, str(ref), applied is not None and wanted == applied.identity)
    first = await claims.first_claimant(conn, config.identity)
    older = first is not None and first != row.ref
    return Existing(space.id, str(first) if older else None)
