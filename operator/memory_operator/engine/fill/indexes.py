"""The index of each space: built beside the traffic, measured where that is asked for, and only then used.

It is made of segments: ranges of chunk ids, each with an index of its own. New vectors lie behind the last of them,
where no index has to be kept, and queries compare them one by one; once there are enough, a segment is built of them.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from memory_operator.engine.fill.index_builds import IndexBuilds
from memory_operator.errors import SpaceVanished
from memory_operator.logs import get_logger
from memory_operator.plan.index import DECLARED, ENOUGH_RECALL, FOLD_FROM, IndexInUse, Segment, to_fold, to_try
from memory_operator.store.db import activity, locks
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.spaces import hnsw, registry, segments, spaces
from memory_operator.store.spaces.hnsw import Wanted
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

WORKER = Actor("memory-operator", "worker")

_QUERIES_END_SECONDS = 3.0
"""A query that began with the indexes before has ended by then: its embedder has two seconds, its search a half."""


async def reconcile_indexes(store: Store, builds: IndexBuilds) -> None:
    """Have the index built that configuration and size of each space ask for that queries read, or may read again."""
    async with store.connection() as conn:
        ready = [space for space in await spaces.all_spaces(conn) if space.state == "ready" or space.kept]
        waiting = [space.id for space in ready if not await is_settled(conn, space)]
        active = await spaces.active(conn)
        store.metrics.unindexed.set(await segments.unindexed(conn, active) if active else 0)
    for space_id in waiting:
        begin(store, builds, space_id)


def begin(store: Store, builds: IndexBuilds, space_id: int) -> None:
    """Have a space's index built, in a task of its own."""
    builds.begin(space_id, partial(settle, store, space_id))


async def is_settled(conn: Conn, space: Space) -> bool:
    """Whether a space has the index and the distance that its configuration asks for, and few vectors beside it."""
    return await _has_what_it_asks_for(conn, space) and await _taken(conn, space) is None


async def _taken(conn: Conn, space: Space) -> int | None:
    """How many of the newest segments a build is to take in with what no index has; None where none is due."""
    now = space.index.segments
    return to_fold(now, *await segments.due(conn, space)) if now else None


async def _has_what_it_asks_for(conn: Conn, space: Space) -> bool:
    config, index = space.config, space.index
    if space.distance != config.distance:
        return False
    if config.index.kind == "none":
        return index.kind == "none"
    vectors = await hnsw.vectors_to_index(conn, space.id)
    if not vectors:
        return True
    if not index.serves(config.index, vectors):
        return False
    if index.kind == "none":
        return True
    if not index.segments and vectors >= index.vectors + FOLD_FROM:
        return False  # from then on new vectors need not enter an index one by one
    return await hnsw.is_usable(conn, space)


async def settle(store: Store, space_id: int) -> None:
    """Build what a space asks for, let queries use it, and drop what they used before.

    Queries go on with the old distance and the old index until then. Raises SpaceVanished, LockBusy (another process
    is at it).
    """
    async with locks.index_lock(store, space_id):
        async with store.connection() as conn:
            space = await spaces.get(conn, space_id)
            if space is None:
                raise SpaceVanished
            taken = await _taken(conn, space)
            has_index = await _has_what_it_asks_for(conn, space)
            if has_index and taken is None:
                return
            vectors = await hnsw.vectors_to_index(conn, space_id)
        used = hnsw.in_use(space)
        await hnsw.drop_others(store, used[0].table, used, only_invalid=True)
        folded = await _folded(store, space, taken) if has_index and taken is not None else None
        index = folded or await _built(store, space, vectors)
        async with store.transaction() as conn:
            await spaces.use_index(conn, space_id, space.config.distance, index)
            if space.distance != space.config.distance:
                distance = space.config.distance
                await activity.record(conn, WORKER, "distance", space.embedding_version, distance=distance)
            await registry.announce(conn)
        parts = len(index.segments)
        log.info("queries of space %s use index %s (segments=%d): %s", *_named(space, index), parts, index.reason)
        await _drop_unused(store, space, index)


def _named(space: Space, index: IndexInUse) -> tuple[str, str]:
    return space.embedding_version, index.kind


async def _drop_unused(store: Store, space: Space, index: IndexInUse) -> None:
    kept = [] if index.kind == "none" else hnsw.in_segments(_index(space, index), index.segments)
    used = set() if space.index.wanted is None else {each.name for each in hnsw.in_use(space)}
    if used - {each.name for each in kept}:
        await asyncio.sleep(_QUERIES_END_SECONDS)
    await hnsw.drop_others(store, _index(space, index).table, kept)


async def _folded(store: Store, space: Space, taken: int) -> IndexInUse | None:
    """The index with a new last segment, of what no index has and of small ones; None: 16 bits cannot hold a number."""
    now = space.index.segments
    older = now[: len(now) - taken]
    first = now[-taken].first if taken else now[-1].end
    built = await build_segment(store, _index(space, space.index), first)
    return None if built is None else space.index.model_copy(update={"segments": (*older, built)})


async def build_segment(store: Store, index: Wanted, first: int) -> Segment | None:
    """Build the index of all vectors from a chunk id on; None where 16 bits cannot hold a number of them."""
    found = await segments.rest(store, index.space_id, first, index.job_id)
    segment = Segment(first=first, end=max(found.end, first + 1), rows=found.rows, began=found.now)
    if not await hnsw.build(store, replace(index, segment=segment)):
        return None
    after = await segments.rest(store, index.space_id, segment.end, index.job_id)
    return segment.model_copy(update={"seconds": max(0.001, after.now - found.now)})


async def build_segments(store: Store, index: Wanted, built: Segment) -> tuple[Segment, ...] | None:
    """A first segment, and those of what was written while each was built, until little is left; None as above."""
    found = [built]
    while (await segments.rest(store, index.space_id, found[-1].end, index.job_id)).rows >= FOLD_FROM:
        following = await build_segment(store, index, found[-1].end)
        if following is None:
            return None
        found.append(following)
    return tuple(found)


async def _built(store: Store, space: Space, vectors: int) -> IndexInUse:
    """The index that serves, once it is there: the first that can be built, and finds enough where that is measured."""
    wanted = space.config.index
    if not vectors and wanted.kind != "none":
        return IndexInUse()  # no index: what is said of it later says why
    said = DECLARED if wanted.kind != "hnsw" else "spec.embedding.index asks for no other"
    found = IndexInUse(kind="none", wanted=wanted, vectors=vectors, reason=said)
    missed: list[str] = []
    for kind in to_try(wanted, space.index, space.column_type, space.dimensions):
        plain = IndexInUse(
            kind=kind, m=wanted.m, ef_construction=wanted.ef_construction, wanted=wanted, vectors=vectors
        )
        index = await _in_segments(store, space, plain)
        if index is None:
            missed.append(f"{kind} cannot hold a number of the vectors")
            found = found.model_copy(update={"reason": "; ".join(missed)})
            continue
        if wanted.kind != "auto":
            return index.model_copy(update={"reason": "; ".join([said, *missed])})
        recall = await hnsw.recall(store, hnsw.in_segments(_index(space, index), index.segments)[0])
        measured = f"recall@10 {recall:.3f} of an exact scan over {vectors} vectors"
        found = index.model_copy(update={"reason": "; ".join([f"auto: {measured}", *missed])})
        if recall >= ENOUGH_RECALL:
            break
        missed.append(f"{kind} finds {recall:.3f} only")
    return found


async def _in_segments(store: Store, space: Space, index: IndexInUse) -> IndexInUse | None:
    """An index, built; None where 16 bits cannot hold a number of the vectors."""
    wanted = _index(space, index)
    if space.index.wanted is None:
        async with store.connection() as conn:
            if await hnsw.are_valid(conn, wanted):
                return index  # release 0.1 built it, of all vectors
    await segments.index_projects(store, space.id)
    first = await build_segment(store, wanted, 0)
    built = await build_segments(store, wanted, first) if first else None
    return index.model_copy(update={"segments": built}) if built else None


def _index(space: Space, index: IndexInUse) -> Wanted:
    return hnsw.of_space(space, space.config.distance, index)
