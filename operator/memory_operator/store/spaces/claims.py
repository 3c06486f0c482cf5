"""Whose a space is: of the live Provider that has it, else of the first live one that asks for it."""

from __future__ import annotations

from collections.abc import Collection

from memory_operator.contract.resource import ProviderRef
from memory_operator.store.db.pool import Conn

_WANT = """
update memory_providers set wanted_identity = $3
where namespace = $1 and name = $2 and absent_since is null and wanted_identity is distinct from $3
"""


async def want(conn: Conn, ref: ProviderRef, identity: str | None) -> None:
    """Note the identity of the space that a Provider asks for; None where it is not known."""
    await conn.execute(_WANT, *ref, identity)


_LIVE_OWNER = """
select namespace, name, wanted_identity from memory_providers
where absent_since is null and (namespace, name) <> ($1, $2) and $3 in (applied_space_id, beside_space_id)
limit 1
"""


async def live_owner(conn: Conn, space_id: int, but: ProviderRef) -> tuple[ProviderRef, str | None] | None:
    """The other live Provider that has a space, as the applied one or the one beside, and what it asks for."""
    row = await conn.fetchrow(_LIVE_OWNER, *but, space_id)
    return (ProviderRef(row["namespace"], row["name"]), row["wanted_identity"]) if row else None


ASKS = """p.absent_since is null and not exists (select 1 from memory_embedding_spaces own
    where own.id in (p.applied_space_id, p.beside_space_id)
    and own.space_identity = p.wanted_identity || '#old-' || own.id)"""
"""Of a Provider whose space had to give its identity to another at the upgrade: that one asks for no other."""

_FIRST_CLAIMANT = f"""
select p.namespace, p.name from memory_providers p
where p.wanted_identity = $1 and {ASKS}
order by p.created_at, p.namespace, p.name
limit 1
"""


async def first_claimant(conn: Conn, identity: str) -> ProviderRef | None:
    """The oldest live Provider, then the first by name, that asks for a space of this identity."""
    row = await conn.fetchrow(_FIRST_CLAIMANT, identity)
    return ProviderRef(*row) if row else None


_WAITING = f"""
select p.namespace, p.name from memory_providers p
join memory_embedding_spaces s on s.space_identity = p.wanted_identity
where {ASKS}
  and not exists (select 1 from memory_providers o
    where o.absent_since is null and s.id in (o.applied_space_id, o.beside_space_id))
order by p.created_at, p.namespace, p.name
"""


async def claimants(conn: Conn) -> list[ProviderRef]:
    """The live Providers that ask for a space which is there and which no live Provider has, the oldest first."""
    return [ProviderRef(*row) for row in await conn.fetch(_WAITING)]


_FREE_TO_MAKE = f"""
select p.namespace, p.name from unnest($1::text[], $2::text[]) as refused (namespace, name)
join memory_providers p using (namespace, name)
where {ASKS} and not exists (select 1 from memory_embedding_spaces s where s.space_identity = p.wanted_identity)
order by p.created_at, p.namespace, p.name
"""


async def free_to_make(conn: Conn, refused: Collection[ProviderRef]) -> list[ProviderRef]:
    """Those that were refused a space which is discarded since: each may have one of its own, the oldest first."""
    if not refused:
        return []
    rows = await conn.fetch(_FREE_TO_MAKE, [ref.namespace for ref in refused], [ref.name for ref in refused])
    return [ProviderRef(*row) for row in rows]
