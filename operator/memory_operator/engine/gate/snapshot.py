"""Everything a decision needs, read at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from memory_operator.contract.resource import ProviderObject
from memory_operator.plan.consent import Consent, look_for_consent
from memory_operator.plan.decide import Existing, SpaceNow
from memory_operator.plan.space import SpaceConfig
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.spaces import consent, providers, registry, spaces
from memory_operator.store.spaces.providers import ProviderRow
from memory_operator.store.spaces.spaces import Space


@dataclass(frozen=True, slots=True)
class View:
    """A Provider's spaces, the counters, and the consent for what it asks for."""

    row: ProviderRow
    applied: Space | None
    beside: Space | None
    existing: Existing | None
    consent: Consent
    counted: dict[int, int]

    @property
    def vectors(self) -> int:
        """Vectors in the applied space."""
        return self.counted.get(self.applied.id, 0) if self.applied else 0

    @property
    def chunks(self) -> int:
        """Live chunks in the store."""
        return self.counted.get(registry.CHUNKS, 0)

    @property
    def applied_now(self) -> SpaceNow | None:
        """The applied space, as a decision sees it."""
        return _now(self.applied, self.counted)

    @property
    def beside_now(self) -> SpaceNow | None:
        """The space beside it, as a decision sees it."""
        return _now(self.beside, self.counted)


def _now(space: Space | None, counted: dict[int, int]) -> SpaceNow | None:
    if space is None:
        return None
    return SpaceNow(space.id, space.config, space.distance, counted.get(space.id, 0))


def _unseen(provider: ProviderObject) -> ProviderRow:
    return ProviderRow(
        provider.ref, provider.uid, provider.generation, provider.created_at, None, None, None, "Automatic", None
    )


async def read_view(store: Store, provider: ProviderObject, config: SpaceConfig) -> View:
    """The view of one Provider with regard to what it asks for."""
    async with store.connection() as conn:
        row = await providers.get(conn, provider.ref) or _unseen(provider)
        applied = None if row.applied_space_id is None else await spaces.get(conn, row.applied_space_id)
        beside = None if row.beside_space_id is None else await spaces.get(conn, row.beside_space_id)
        heading = set(await providers.providers_targeting(conn, config.dimensions)) | {provider.ref}
        return View(
            row=row,
            applied=applied,
            beside=beside,
            existing=await _existing(conn, row, config),
            consent=look_for_consent(
                await consent.markers(conn),
                str(provider.ref),
                config.dimensions,
                len(heading),
                datetime.now(UTC),
            ),
            counted=await registry.counted(conn),
        )


async def _existing(conn: Conn, row: ProviderRow, config: SpaceConfig) -> Existing | None:
    """The space of the desired identity, where this Provider does not have it already."""
    space = await spaces.by_identity(conn, config.identity)
    if space is None or space.id in (row.applied_space_id, row.beside_space_id):
        return None
    holder = await providers.by_space(conn, space.id)
    live = holder is not None and holder.absent_since is None and holder.ref != row.ref
    older = holder is not None and (holder.created_at, holder.ref) < (row.created_at, row.ref)
    return Existing(space.id, str(space.ref), live, older)
