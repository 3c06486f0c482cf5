"""What stands before a call for texts that are being stored: what there is of them already, and the ledger's row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from memory_operator.store.db.pool import Conn
from memory_operator.store.spaces import vectors
from memory_operator.store.spaces.spaces import SEEN_AT_ONCE, Space
from memory_operator.store.usage.ledger import Intent, LedgerEntry, Share


@dataclass(frozen=True, slots=True)
class Begun:
    """What was found, and written down."""

    known: Mapping[bytes, NDArray[np.float32]]
    """Vectors that live chunks have, by content hash, each of shape (dimensions,)."""
    entry: LedgerEntry | None
    """The row of the call for all other texts."""


_BEGIN = f"""
with relaxed as (select set_config('synchronous_commit', 'off', true)),
now as materialized (select {SEEN_AT_ONCE} = $1::text[] as same),
wanted as materialized (select * from unnest($2::bytea[], $3::bigint[]) as w (content_hash, tokens)),
known as materialized (
  select w.content_hash, s.embedding from wanted w, lateral (
    select v.embedding::vector as embedding from memory_chunks r join {{vectors}} v on v.chunk_id = r.id
    where r.content_hash = w.content_hash and r.live limit 1) s
  where (select same from now)),
written as (
  insert into memory_usage_ledger (call_id, purpose, tenant_id, provider_namespace, provider_name, space_id,
    embedding_version, model, inputs, estimated_tokens)
  select $4, 'add', $5::int, $6, $7, $8, $9, $10, count(*), sum(w.tokens) from wanted w
  where $11 and (select same from now)
    and not exists (select from known k where k.content_hash = w.content_hash)
  having count(*) > 0 returning id)
select now.same, written.id, known.content_hash, known.embedding
from relaxed cross join now left join written on true left join known on true
"""


async def begin(
    conn: Conn, space: Space, seen: Sequence[str], tenant_id: int, texts: Mapping[bytes, int], *, metered: bool
) -> Begun | None:
    """Look up texts, given as their content hashes with estimated tokens, and write down a call for the others.

    None where the spaces that writes wait for are not those that were `seen`; nothing is written then. The row is there
    where the call is `metered`; it survives the death of this process at once, and that of the server a moment later.
    Raises SpaceVanished.
    """
    call_id = uuid4()
    rows = await conn.fetch(
        vectors.for_space(_BEGIN, space.id),
        list(seen),
        list(texts),
        list(texts.values()),
        call_id,
        tenant_id,
        *space.ref,
        space.id,
        space.embedding_version,
        space.config.model or space.config.type,
        metered,
    )
    if not rows[0]["same"]:
        return None
    known = {
        row["content_hash"]: row["embedding"].to_numpy().astype(np.float32)
        for row in rows
        if row["content_hash"] is not None
    }
    if rows[0]["id"] is None:
        return Begun(known, None)
    missing = [tokens for content_hash, tokens in texts.items() if content_hash not in known]
    intent = Intent.of(space, "add", [Share(tenant_id, len(missing), sum(missing))])
    return Begun(known, LedgerEntry(call_id, [rows[0]["id"]], intent))
