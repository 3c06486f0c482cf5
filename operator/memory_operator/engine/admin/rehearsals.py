"""Rehearsals: another model of a Provider, tried on a sample of the chunks before anything of a space is changed.

Each step is a bounded request. What a killed command leaves behind expires, and is removed by whoever looks next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from memory_operator.contract.known_models import column_limit, known_dimension
from memory_operator.contract.resource import ProviderRef
from memory_operator.embedders import Embeddings, batch_limit
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.metered import MeasuredCall, embed_to_measure
from memory_operator.engine.memories.sides import budget_reached, embedder_unavailable
from memory_operator.errors import (
    BudgetReached,
    Conflict,
    InvalidInput,
    NotFound,
    Permanent,
    RateLimited,
    RequestRejected,
)
from memory_operator.logs import get_logger
from memory_operator.plan.cost import cost_of
from memory_operator.plan.space import SpaceConfig
from memory_operator.store.db import activity
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import estimate
from memory_operator.store.memories.tenants import KeyRing, Tenant
from memory_operator.store.memories.text_sums import CIPHER_BYTES
from memory_operator.store.spaces import providers, rehearsals, spaces
from memory_operator.store.spaces.rehearsals import Rehearsal, Sample, SampledChunk, SampleSize
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

MOST_CHUNKS = 10_000
"""Of one rehearsal."""

_AT_ONCE = 4
"""Open rehearsals of one tenant."""
_BATCH = 64
_CALLS = 4
"""At the same time."""
_STEP_SECONDS = 8.0
"""After so long no further calls of a step are begun."""
_CALL_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class RehearsalRequest:
    """What is to be tried, and on what."""

    provider: ProviderRef
    model: str
    dimensions: int | None = None
    query_prefix: str | None = None
    """None: as the Provider's."""
    document_prefix: str | None = None
    project: str | None = None
    """None: all projects of the tenant."""
    size: int = 2_000
    seed: int = 1


@dataclass(frozen=True, slots=True)
class RehearsalPlan:
    """What a rehearsal takes."""

    active: str
    """The space that it is compared with."""
    config: SpaceConfig
    size: SampleSize
    cost: Decimal | None
    """US dollars at the price that the Provider declares; None where it declares none."""
    seconds: int | None
    """At the rate of the Provider's last job; None where there was none."""


@dataclass(frozen=True, slots=True)
class Named:
    """A rehearsal, and whose vendor it uses."""

    rehearsal: Rehearsal
    space: Space


class Rehearsals:
    """Begins, fills and drops rehearsals. One for each event loop."""

    def __init__(self, store: Store, connector: Connector, keys: KeyRing) -> None:
        self._store = store
        self._connector = connector
        self._keys = keys

    async def plan(self, tenant: str, request: RehearsalRequest) -> RehearsalPlan:
        """What a rehearsal would take; nothing is written.

        Raises NotFound, InvalidInput, Conflict (no_active_space).
        """
        _, sample = await self._sample(tenant, request)
        async with self._store.connection() as conn:
            space, active = await _spaces(conn, request.provider)
            return await _plan(conn, space, active, request, sample)

    async def begin(self, tenant: str, request: RehearsalRequest, by: Actor) -> tuple[RehearsalPlan, Named]:
        """Take the sample, which is embedded step by step. Raises as `plan`, and Conflict (too_many_rehearsals)."""
        owner, sample = await self._sample(tenant, request)
        async with self._store.transaction() as conn:
            space, active = await _spaces(conn, request.provider)
            await rehearsals.drop_expired(conn)
            if sum(one.tenant_id == owner.id for one in await rehearsals.all_open(conn)) >= _AT_ONCE:
                raise Conflict(
                    f"{_AT_ONCE} rehearsals are open already",
                    code="too_many_rehearsals",
                    hint="drop one with DELETE /v1/embeddings/rehearsals/{id}, or wait until one expires",
                )
            plan = await _plan(conn, space, active, request, sample)
            if not plan.size.chunks:
                raise Conflict(
                    f"{plan.active} has no vector of these memories to compare with",
                    code="nothing_in_common",
                    hint="name another project, or fill the active space first",
                )
            sizes = (CIPHER_BYTES, len(plan.config.document_prefix.encode()))
            made = await rehearsals.create(conn, (space.id, active.id), plan.config, by.name, sample, sizes)
            await activity.record(
                conn, by, "rehearse", f"rehearsal-{made}", provider=str(space.ref), model=plan.config.model
            )
        return plan, await self.get(tenant, made)

    async def get(self, tenant: str, rehearsal_id: int) -> Named:
        """One of a tenant's. Raises NotFound."""
        owner = await self._keys.known_tenant(self._store, tenant)
        async with self._store.connection() as conn:
            found = await rehearsals.find(conn, rehearsal_id)
            space = await spaces.get(conn, found.space_id) if found else None
        if found is None or space is None or owner is None or found.tenant_id != owner.id:
            raise NotFound(
                f"there is no rehearsal {rehearsal_id}", hint="it was dropped, or expired; begin another one"
            )
        return Named(found, space)

    async def all_open(self, tenant: str) -> list[Named]:
        """Those of a tenant, oldest first."""
        owner = await self._keys.known_tenant(self._store, tenant)
        async with self._store.connection() as conn:
            found = [one for one in await rehearsals.all_open(conn) if owner and one.tenant_id == owner.id]
            by_id = {space.id: space for space in await spaces.all_spaces(conn)}
        return [Named(one, by_id[one.space_id]) for one in found if one.space_id in by_id]

    async def fill(self, tenant: str, rehearsal_id: int) -> Named:
        """Embed some more of the sample, or nothing while the Provider's limits let no call leave.

        Raises NotFound, Conflict (embedder_unavailable, budget_reached), Retryable.
        """
        named = await self.get(tenant, rehearsal_id)
        async with self._store.connection() as conn:
            await rehearsals.put_off(conn, rehearsal_id)
        now = asyncio.get_running_loop().time
        ends = now() + _STEP_SECONDS
        while named.rehearsal.left and now() < ends:
            async with self._store.connection() as conn:
                chunks = await rehearsals.lacking(conn, rehearsal_id, _batch_size(named) * _CALLS)
            try:
                await self._embed(named, chunks)
            except RateLimited as error:
                log.info("rehearsal goes on with the next request (rehearsal=%d): %s", rehearsal_id, error)
                ends = now()
            named = await self.get(tenant, rehearsal_id)
        return named

    async def drop(self, tenant: str, rehearsal_id: int) -> None:
        """Remove one with its vectors. Raises NotFound."""
        await self.get(tenant, rehearsal_id)
        async with self._store.connection() as conn:
            await rehearsals.drop(conn, rehearsal_id)

    async def _sample(self, tenant: str, request: RehearsalRequest) -> tuple[Tenant, Sample]:
        owner = await self._keys.known_tenant(self._store, tenant)
        project_id = None
        if owner is not None and request.project is not None:
            project_id = await self._keys.known_project(self._store, owner, request.project)
        if owner is None or (request.project is not None and project_id is None):
            raise NotFound(f"there is no project {request.project or 'default'}", hint="GET /v1/projects lists them")
        return owner, Sample(owner.id, project_id, request.seed, min(request.size, MOST_CHUNKS))

    async def _embed(self, named: Named, chunks: Sequence[SampledChunk]) -> None:
        """Embed chunks in a few calls side by side; where one fails, what the others brought is kept."""
        texts = await self._keys.chunk_texts(self._store, chunks)
        size = _batch_size(named)
        calls = [
            asyncio.create_task(
                self._embed_batch(named, chunks[start : start + size], texts[start : start + size]), name="rehearsal"
            )
            for start in range(0, len(chunks), size)
        ]
        try:
            await asyncio.gather(*calls)
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def _embed_batch(self, named: Named, chunks: Sequence[SampledChunk], texts: Sequence[str]) -> None:
        """Embed a batch; of one that is refused for its texts, each by itself."""
        try:
            found = await self._call(named, texts)
        except RequestRejected as error:
            if not error.about_the_texts:
                raise embedder_unavailable(named.rehearsal.name, error) from error
            if len(chunks) > 1:
                middle = len(chunks) // 2
                await self._embed_batch(named, chunks[:middle], texts[:middle])
                await self._embed_batch(named, chunks[middle:], texts[middle:])
                return
            async with self._store.connection() as conn:
                await rehearsals.refuse(conn, named.rehearsal.id, [chunks[0].id], error.message[:200])
            return
        except BudgetReached as error:
            raise budget_reached(error) from error
        except Permanent as error:
            self._connector.forget(named.rehearsal.config, error)
            raise embedder_unavailable(named.rehearsal.name, error) from error
        async with self._store.transaction() as conn:
            stored = await rehearsals.store(conn, named.rehearsal.id, [chunk.id for chunk in chunks], found.vectors)
        if not stored:
            raise Conflict(
                f"{named.rehearsal.name} was dropped, or its model gives vectors of several lengths",
                code="rehearsal_ended",
                hint="begin another one",
            )

    async def _call(self, named: Named, texts: Sequence[str]) -> Embeddings:
        rehearsal = named.rehearsal
        length = rehearsal.dimensions or rehearsal.config.requested_dimensions
        call = MeasuredCall(named.space, rehearsal.config, "rehearse", rehearsal.tenant_id, texts, length)
        return await embed_to_measure(self._store, self._connector, call, _CALL_SECONDS)


def _batch_size(named: Named) -> int:
    config = named.rehearsal.config
    return max(1, min(_BATCH, batch_limit(config)))


async def _spaces(conn: Conn, ref: ProviderRef) -> tuple[Space, Space]:
    """The space of a Provider, whose vendor is called, and the active one. Raises NotFound, Conflict."""
    row = await providers.get(conn, ref)
    space = await spaces.get(conn, row.applied_space_id) if row and row.applied_space_id else None
    if row is None or space is None or row.absent_since is not None:
        raise NotFound(f"Provider {ref} has no space", hint="GET /v1/embeddings/spaces lists them")
    active = await spaces.active(conn)
    if active is None:
        raise Conflict(
            "no space is active that a rehearsal could be compared with",
            code="no_active_space",
            hint="POST /v1/embeddings/activate",
        )
    return space, active


async def _plan(conn: Conn, space: Space, active: Space, request: RehearsalRequest, sample: Sample) -> RehearsalPlan:
    config = rehearsed_config(space.config, request)
    size = await rehearsals.measure(conn, active.id, sample, CIPHER_BYTES, len(config.document_prefix.encode()))
    rate = await estimate.last_rate(conn, space)
    seconds = None if rate is None else max(1, round(size.chunks / rate))
    return RehearsalPlan(
        active.embedding_version, config, size, cost_of(size.tokens, config.input_cost_per_1k), seconds
    )


def rehearsed_config(applied: SpaceConfig, request: RehearsalRequest) -> SpaceConfig:
    """A Provider's configuration with another model. Raises InvalidInput."""
    declared = request.dimensions or known_dimension(applied.type, request.model)
    limit = column_limit("halfvec")
    if declared is not None and declared > limit:
        raise InvalidInput(
            f"dimension {declared} is above {limit}, the most that an index can have", hint="choose another model"
        )
    changed = {
        "model": request.model,
        "requested_dimensions": request.dimensions,
        "dimensions": declared or applied.dimensions,
        "query_prefix": applied.query_prefix if request.query_prefix is None else request.query_prefix,
        "document_prefix": applied.document_prefix if request.document_prefix is None else request.document_prefix,
    }
    return SpaceConfig.model_validate({**applied.model_dump(), **changed})
