"""Spaces: their rows, their states, their tables, and the view that shows the active one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

from memory_operator.contract.resource import ProviderRef
from memory_operator.plan.index import IndexInUse
from memory_operator.plan.space import SpaceConfig
from memory_operator.store.db.pool import Conn, Row, fetch_one
from memory_operator.store.spaces import claims, registry, vectors
from memory_operator.store.spaces.identities import old_identity

ACTIVE_STATES = ("filling", "ready")
"""States of spaces that writes go to."""

State = Literal["filling", "ready", "retired", "orphaned"]


@dataclass(frozen=True, slots=True)
class Space:
    """One row of memory_embedding_spaces."""

    id: int
    identity: str
    space_key: str
    embedding_version: str
    ref: ProviderRef
    provider_uid: str
    provider_generation: int
    config: SpaceConfig
    column_type: str
    dimensions: int
    distance: str
    state: State
    create_enabled: bool
    created_at: datetime
    index: IndexInUse = field(default_factory=IndexInUse)
    """What queries use."""
    credential_proof: bytes | None = field(default=None, repr=False)
    """HMAC of the credential that last worked with the space's vendor."""
    credential_moved: bool = False
    """The Provider names another vendor by now: only the credential that worked is used."""
    seen_as: str = ""
    """Its id, the version of its row, and a digest of its Provider's rerank API: another as soon as one changes."""
    kept_until: datetime | None = None
    """Until when a retired space gets new memories, so that it can be switched back to; None: it is not kept."""
    keep_ended: str | None = None
    """Why it was kept no longer before that time."""
    kept: bool = False
    """Whether it is kept now, by the database's clock."""
    kept_tokens: int = 0
    """What it took since it was replaced."""
    kept_cost: Decimal | None = None
    """US dollars; None where no price is known of any of it."""

    @property
    def gets_vectors(self) -> bool:
        """Whether vectors are made for it: for what it lacks, and for new memories where `create_enabled`."""
        return self.kept or self.state in ACTIVE_STATES


@dataclass(frozen=True, slots=True)
class Owner:
    """The Provider, as it was decided on, that a space is made for."""

    ref: ProviderRef
    uid: str
    generation: int


@dataclass(frozen=True, slots=True)
class SpaceFigures:
    """What is counted of a space, at one moment."""

    active: bool
    vectors: int
    chunks: int
    """Live chunks in the store."""
    quarantined: int
    pending: int
    """Chunks that wait for a vector outside a fill."""
    trouble: str | None
    """Why its embedder gives no vectors at the moment."""


KEPT = "(s.state = 'retired' and s.kept_until is not null and s.kept_until > now())"
"""Whether a space `s` was replaced by an edit, and gets new memories all the same for some time."""

SEEN_AS = (
    "s.id || ' ' || s.xmin::text || ' ' || coalesce((select md5(p.rerank::text) from memory_providers p"
    " where p.namespace = s.provider_namespace and p.name = s.provider_name and p.absent_since is null), '')"
)

_COLUMNS = (
    "s.id, coalesce(s.space_identity, s.identity) as identity, s.space_key, s.embedding_version, s.provider_namespace,"
    " s.provider_name, s.provider_uid, s.provider_generation, s.config, s.column_type, s.dimensions, s.distance,"
    " s.state, s.create_enabled, s.created_at, s.credential_proof, s.credential_moved, s.index_wanted, s.index_in_use,"
    f" {SEEN_AS} as seen_as, s.kept_until, s.keep_ended, {KEPT} as kept, s.kept_tokens, s.kept_cost"
)


_AS_STORED = Space.__dataclass_fields__.keys() - {"ref", "config", "index"}


def _space(row: Row) -> Space:
    return Space(
        **{name: row[name] for name in _AS_STORED},
        ref=ProviderRef(row["provider_namespace"], row["provider_name"]),
        config=SpaceConfig.model_validate({**row["config"], "index": row["index_wanted"] or {}}),
        index=IndexInUse.model_validate(row["index_in_use"] or {}),
    )


_GET = f"""select {_COLUMNS} from memory_embedding_spaces s where s.id = $1"""


async def get(conn: Conn, space_id: int) -> Space | None:
    """One space by id."""
    row = await conn.fetchrow(_GET, space_id)
    return _space(row) if row else None


_BY_IDENTITY = f"""select {_COLUMNS} from memory_embedding_spaces s where s.space_identity = $1"""


async def by_identity(conn: Conn, identity: str) -> Space | None:
    """The space of an identity; there is never more than one."""
    row = await conn.fetchrow(_BY_IDENTITY, identity)
    return _space(row) if row else None


_BY_VERSION = f"""select {_COLUMNS} from memory_embedding_spaces s where s.embedding_version = $1"""


async def by_version(conn: Conn, embedding_version: str) -> Space | None:
    """The space of a name."""
    row = await conn.fetchrow(_BY_VERSION, embedding_version)
    return _space(row) if row else None


_ALL_SPACES = f"""select {_COLUMNS} from memory_embedding_spaces s order by s.id"""


async def all_spaces(conn: Conn) -> list[Space]:
    """Every space, oldest first."""
    rows = await conn.fetch(_ALL_SPACES)
    return [_space(row) for row in rows]


_ALL_WITH_FIGURES = f"""
select {_COLUMNS}, s.id is not distinct from r.active_space_id as active, s.trouble,
coalesce((select sum(n) from memory_embedding_counters c where c.scope = s.id), 0)::bigint as vectors,
coalesce((select sum(n) from memory_embedding_counters c where c.scope = {registry.CHUNKS}), 0)::bigint as chunks,
(select count(*) from memory_embedding_quarantine q where q.space_id = s.id) as quarantined,
(select count(*) from memory_embedding_pending w where w.space_id = s.id) as pending
from memory_embedding_spaces s cross join memory_registry r order by s.id
"""


async def all_with_figures(conn: Conn) -> list[tuple[Space, SpaceFigures]]:
    """Every space with what is counted of it, oldest first, in one statement, so that the figures fit each other."""
    rows = await conn.fetch(_ALL_WITH_FIGURES)
    names = SpaceFigures.__dataclass_fields__
    return [(_space(row), SpaceFigures(**{name: row[name] for name in names})) for row in rows]


_ACTIVE = f"""
select {_COLUMNS} from memory_embedding_spaces s join memory_registry r on r.active_space_id = s.id
"""


async def active(conn: Conn) -> Space | None:
    """The space that queries read."""
    row = await conn.fetchrow(_ACTIVE)
    return _space(row) if row else None


ACCEPTING = f"s.create_enabled and (s.state in ('filling', 'ready') or {KEPT})"
"""Whether new chunks are embedded for a space `s`, at once or by the workers."""

_ACTIVE_FIRST = "order by s.id = r.active_space_id desc nulls last, s.id"

_ACCEPTING_WRITES = f"""
select {_COLUMNS} from memory_embedding_spaces s cross join memory_registry r where {ACCEPTING} {_ACTIVE_FIRST}
"""


async def accepting_writes(conn: Conn) -> list[Space]:
    """The spaces that new chunks are embedded for, at once or by the workers, the active one first."""
    return [_space(row) for row in await conn.fetch(_ACCEPTING_WRITES)]


_AT_ONCE = f"""
from memory_embedding_spaces s cross join memory_registry r where {ACCEPTING} and (s.id = r.active_space_id
  or exists (select 1 from memory_reembed_jobs j where j.space_id = s.id and j.state = 'running'
    and j.closing_at > now() - interval '10 s')) {_ACTIVE_FIRST}
"""

SEEN_AT_ONCE = f"array(select {SEEN_AS} {_AT_ONCE})"
"""As what the spaces that `embedded_at_once` gives are seen: another array as soon as it gives others."""

_EMBEDDED_AT_ONCE = f"""select {_COLUMNS} {_AT_ONCE}"""


async def embedded_at_once(conn: Conn) -> list[Space]:
    """The spaces that a write waits for: the active one, first, and those whose fill is about to be completed."""
    return [_space(row) for row in await conn.fetch(_EMBEDDED_AT_ONCE)]


_OWNED = f"""
select {_COLUMNS} from memory_embedding_spaces s
where s.provider_namespace = $1 and s.provider_name = $2 order by s.id
"""


async def owned(conn: Conn, ref: ProviderRef) -> list[Space]:
    """The spaces of one Provider, oldest first."""
    rows = await conn.fetch(_OWNED, *ref)
    return [_space(row) for row in rows]


_OF_PROVIDER = f"""
select {_COLUMNS} from memory_embedding_spaces s
where s.id = any($3) or s.provider_namespace = $1 and s.provider_name = $2 order by s.id
"""


async def of_provider(conn: Conn, ref: ProviderRef, space_ids: Sequence[int]) -> list[Space]:
    """The spaces of one Provider, and those of some ids, oldest first."""
    return [_space(row) for row in await conn.fetch(_OF_PROVIDER, *ref, space_ids)]


_NEXT_ID = """select nextval(pg_get_serial_sequence('memory_embedding_spaces', 'id'))"""

_CREATE = f"""
insert into memory_embedding_spaces as s (id, identity, space_identity, space_key, embedding_version,
provider_namespace, provider_name, provider_uid, provider_generation, config, column_type, dimensions,
distance, state, create_enabled, index_wanted) overriding system value
values ($1, case when exists (select 1 from memory_embedding_spaces o where o.identity = $14)
  then $14 || '#' || $1::bigint::text else $14 end,
$2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'filling', $13, $15)
returning {_COLUMNS}
"""


async def create(conn: Conn, owner: Owner, config: SpaceConfig) -> Space:
    """A new space in state `filling`, with its empty vector table. Raises LockBusy."""
    space_id = await conn.fetchval(_NEXT_ID)
    row = await fetch_one(
        conn,
        _CREATE,
        space_id,
        config.identity,
        config.key,
        version_name(config, space_id),
        *owner.ref,
        owner.uid,
        owner.generation,
        config.snapshot,
        config.column_type,
        config.dimensions,
        config.distance,
        config.create_enabled,
        config.identity_of_0_1,
        config.index.model_dump(),
    )
    space = _space(row)
    await vectors.create_table(conn, space.id, space.column_type, space.dimensions)
    return space


def version_name(config: SpaceConfig, space_id: int) -> str:
    """A short unique name for people: model, dimensions, number of the space."""
    model = re.sub(r"[^a-z0-9.]+", "-", (config.model or config.type).lower()).strip("-.")[:40] or config.type
    return f"{model}-{config.dimensions}-{space_id}"


_SHOW_ACTIVE = """select memory_show_active()"""
"""Repoint the view `memory_embeddings`; no statement of the schema, so that the API's role may do it."""

_CLEAR_ACTIVE = """update memory_registry set active_space_id = null"""

_DROP_VECTORS = """select memory_drop_vectors($1)"""

_DISCARD_COUNTERS = """delete from memory_embedding_counters where scope = $1"""

_DISCARD = """delete from memory_embedding_spaces where id = $1"""


async def discard(conn: Conn, space: Space) -> None:
    """Remove a space and its vectors: the row, the table and the counter. Raises LockBusy.

    The registry is locked exclusively, so no writer is in the middle of a transaction.
    """
    was_active = (await registry.read(conn)).active_space_id == space.id
    if was_active:
        await conn.execute(_CLEAR_ACTIVE)
        await conn.execute(_SHOW_ACTIVE)
    await conn.execute(_DROP_VECTORS, space.id)
    await conn.execute(_DISCARD_COUNTERS, space.id)
    await conn.execute(_DISCARD, space.id)


_SET_STATE = """
update memory_embedding_spaces set state = $2, state_changed_at = now(), kept_until = null, keep_ended = null,
filled_at = case when $2 = 'ready' then now() else filled_at end where id = $1 and state <> $2
"""


async def set_state(conn: Conn, space_id: int, state: State) -> None:
    """Move a space to another state, in which nothing is said of keeping it yet."""
    await conn.execute(_SET_STATE, space_id, state)


_REOWN = """
update memory_embedding_spaces set provider_namespace = $2, provider_name = $3, provider_uid = $4,
provider_generation = $5 where id = $1
"""


async def reown(conn: Conn, space_id: int, owner: Owner) -> None:
    """Record which Provider, uid and generation a space belongs to."""
    await conn.execute(_REOWN, space_id, *owner.ref, owner.uid, owner.generation)


_REFRESH_CONFIG = """
update memory_embedding_spaces set config = $2, create_enabled = $3, index_wanted = $6
where id = $1 and space_identity in ($4, $5)
"""


async def refresh_config(conn: Conn, space_id: int, config: SpaceConfig) -> None:
    """Copy what may change without making another space: credential, headers, timeout, limits, pricing, …"""
    await conn.execute(
        _REFRESH_CONFIG,
        space_id,
        config.snapshot,
        config.create_enabled,
        config.identity,
        old_identity(config.identity, space_id),
        config.index.model_dump(),
    )


_USE_INDEX = """update memory_embedding_spaces set distance = $2, index_in_use = $3 where id = $1"""


async def use_index(conn: Conn, space_id: int, distance: str, index: IndexInUse) -> None:
    """Let queries compare by a distance and use an index for it, which is there already, or is not needed."""
    await conn.execute(_USE_INDEX, space_id, distance, index.model_dump())


async def activate(conn: Conn, space: Space, by: str) -> None:
    """Make a space the active one, and show it in the view. The registry is locked exclusively."""
    await registry.set_active(conn, space.id, by)
    await conn.execute(_SHOW_ACTIVE)


async def deactivate(conn: Conn, reason: str, by: str) -> None:
    """Let no space be active; queries then answer from full-text. The registry is locked exclusively."""
    await registry.set_inactive(conn, reason, by)
    await conn.execute(_SHOW_ACTIVE)


_SET_CREATE_ENABLED = """update memory_embedding_spaces set create_enabled = $2 where id = $1"""


async def set_create_enabled(conn: Conn, space_id: int, *, enabled: bool) -> None:
    """Let new chunks be embedded for a space, or not, until its Provider says otherwise."""
    await conn.execute(_SET_CREATE_ENABLED, space_id, enabled)


_PRUNABLE = f"""
select {_COLUMNS} from memory_embedding_spaces s
where s.state in ('orphaned', 'retired')
and not exists (select 1 from memory_registry r where r.active_space_id = s.id)
and s.space_identity is not null
and not exists (select 1 from memory_providers p where p.absent_since is null
  and (s.id in (p.applied_space_id, p.beside_space_id) or s.space_identity = p.wanted_identity and {claims.ASKS}))
order by s.id
"""


async def prunable(conn: Conn) -> list[Space]:
    """Spaces that nobody asks for, oldest first: orphaned or retired, not active, no live Provider has or wants it."""
    rows = await conn.fetch(_PRUNABLE)
    return [_space(row) for row in rows]
