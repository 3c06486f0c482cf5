"""Identities of spaces that release 0.1 stored: computed once, under the registry lock, taking nothing from anybody."""

from __future__ import annotations

from collections import defaultdict

from memory_operator.logs import get_logger
from memory_operator.plan.space import SpaceConfig
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.spaces import registry

log = get_logger(__name__)

_ANY_WITHOUT = """select exists (select 1 from memory_embedding_spaces where space_identity is null)"""

_WITHOUT = """
select s.id, s.config from memory_embedding_spaces s
cross join memory_registry r
where s.space_identity is null
order by
  exists (select 1 from memory_providers p
    where p.absent_since is null and s.id in (p.applied_space_id, p.beside_space_id)) desc,
  s.id is not distinct from r.active_space_id desc,
  coalesce((select sum(n) from memory_embedding_counters c where c.scope = s.id), 0) desc,
  s.id
"""

_TAKEN = """select space_identity from memory_embedding_spaces where space_identity = any($1)"""

_SET = """update memory_embedding_spaces set space_identity = $2 where id = $1"""


async def settle_identities(store: Store) -> None:
    """Give each space that has none its identity.

    Where several have the same one, that of a live Provider keeps it, then the active one, then the fuller one. The
    others get an identity of their own; their state, vectors and Provider stay. Raises StoreUnavailable, LockBusy.
    """
    async with store.connection() as conn:
        if not await conn.fetchval(_ANY_WITHOUT):
            return
    async with store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        await _settle(conn)


async def _settle(conn: Conn) -> None:
    by_identity: dict[str, list[int]] = defaultdict(list)
    for row in await conn.fetch(_WITHOUT):
        by_identity[SpaceConfig.model_validate(row["config"]).identity].append(row["id"])
    taken = {row["space_identity"] for row in await conn.fetch(_TAKEN, list(by_identity))}
    for identity, space_ids in by_identity.items():
        for place, space_id in enumerate(space_ids):
            keeps = place == 0 and identity not in taken
            await conn.execute(_SET, space_id, identity if keeps else old_identity(identity, space_id))
            if not keeps:
                log.info(
                    "space %d keeps its vectors under an identity of its own, as another has its identity", space_id
                )


def old_identity(identity: str, space_id: int) -> str:
    """Identity of a space whose own was given to another at the upgrade."""
    return f"{identity}#old-{space_id}"
