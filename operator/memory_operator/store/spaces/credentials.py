"""Which credential worked with a space's vendor, and whether its Provider names another vendor by now."""

from __future__ import annotations

from memory_operator.store.db.pool import Conn

_KEEP_PROOF = """
update memory_embedding_spaces set credential_proof = $2
where id = $1 and credential_proof is distinct from $2 and not credential_moved
"""


async def keep_proof(conn: Conn, space_id: int, proof: bytes) -> None:
    """Keep which credential worked with the space's vendor, unless the Provider names another vendor by now."""
    await conn.execute(_KEEP_PROOF, space_id, proof)


_SET_MOVED = """
update memory_embedding_spaces set credential_moved = $2 where id = $1 and credential_moved <> $2
"""


async def set_moved(conn: Conn, space_id: int, *, moved: bool) -> None:
    """Keep whether the Provider names another vendor than the space's."""
    await conn.execute(_SET_MOVED, space_id, moved)
