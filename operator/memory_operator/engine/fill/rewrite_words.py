"""Chunks whose words are indexed in another way by now: looked at a slice at a time, and rewritten in place.

No chunk is made, no vector, no call. Full-text search goes on: a chunk is found by its old words until its slice is
committed, and queries ask in every language that a chunk of the project is indexed in.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from memory_operator.engine.fill.writer import LOCK_TIMEOUT_MS
from memory_operator.engine.memories.prepare import indexed_text, opened
from memory_operator.logs import get_logger
from memory_operator.memory.encryption import DataKey, Place, Undecryptable
from memory_operator.memory.languages import AUTO, ENGLISH, LATIN, configuration_of
from memory_operator.store.db.pool import Store, limit_lock_waits
from memory_operator.store.memories import languages
from memory_operator.store.memories.languages import IndexedChunk, OpenProject
from memory_operator.store.memories.tenants import KeyRing

log = get_logger(__name__)

SLICE_CHUNKS = 200
"""Chunks that one transaction locks and looks at."""

_PAUSE_SECONDS = 0.02
"""Between two slices, for queries and fills beside."""


async def rewrite_one_slice(store: Store, keys: KeyRing) -> bool:
    """Look at the next chunks of a project whose language changed; False when there is none.

    Raises StoreUnavailable, LockBusy: the slice is looked at again.
    """
    async with store.connection() as conn:
        names = await languages.waiting(conn)
    for name in names:
        if await _rewrite_slice(store, name, (await keys.tenant(store, name)).key):
            await asyncio.sleep(_PAUSE_SECONDS)
            return True
    return False


async def _rewrite_slice(store: Store, tenant: str, key: DataKey) -> bool:
    """Look at the next chunks of one of a tenant's projects; False where other workers look at all of those."""
    async with store.transaction() as conn:
        await limit_lock_waits(conn, LOCK_TIMEOUT_MS)
        project = await languages.claim(conn, tenant)
        if project is None:
            return False
        chunks = await languages.read(conn, project, SLICE_CHUNKS)
        changed = await asyncio.to_thread(_changed, project, chunks, key)
        if changed:
            await languages.rewrite(conn, project.id, changed)
        done = len(chunks) < SLICE_CHUNKS
        await languages.advance(conn, project.id, None if done else chunks[-1].id)
    if done:
        log.info("all words of a project are indexed in its language (project=%d)", project.id)
    return True


def _changed(project: OpenProject, chunks: list[IndexedChunk], key: DataKey) -> list[tuple[int, str, str]]:
    """Those that are to be indexed in another way: id, configuration, what they are found by."""
    opened_chunks = []
    for chunk in chunks:
        canonical, number = chunk.canonical_id, chunk.version_no
        try:
            text = key.open(chunk.text, Place(canonical, number, "chunk", chunk.ordinal))
            summary = opened(chunk.summary, key, Place(canonical, number, "summary"))
        except Undecryptable as error:
            log.warning("a chunk of memory %s keeps the words that it has: %s", canonical, error)
            continue
        seen = configuration_of(text) if project.language == AUTO else project.language
        opened_chunks.append((chunk, seen, indexed_text(text, chunk.ordinal, chunk.tags, summary)))
    latin = Counter(seen for _, seen, _ in opened_chunks if seen in LATIN)
    usual = max(latin, key=latin.__getitem__, default=ENGLISH)
    found = []
    for chunk, seen, indexed in opened_chunks:
        language = seen or usual
        # What the first release indexed is right where it is English and ASCII.
        if language != (chunk.language or ENGLISH) or (chunk.language is None and not indexed.isascii()):
            found.append((chunk.id, language, indexed))
    return found
