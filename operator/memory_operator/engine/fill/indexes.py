"""The index of each space: built beside the traffic, measured where that is asked for, and only then used."""

from __future__ import annotations

from functools import partial

from memory_operator.engine.fill.index_builds import IndexBuilds
from memory_operator.errors import SpaceVanished
from memory_operator.logs import get_logger
from memory_operator.plan.index import DECLARED, ENOUGH_RECALL, IndexInUse, to_try
from memory_operator.store.db import activity, locks
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.spaces import hnsw, registry, spaces
from memory_operator.store.spaces.hnsw import Wanted
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

WORKER = Actor("memory-operator", "worker")


async def reconcile_indexes(store: Store, builds: IndexBuilds) -> None:
    """Have the index built that the configuration and the size of each ready space ask for."""
    async with store.connection() as conn:
        ready = [space for space in await spaces.all_spaces(conn) if space.state == "ready"]
        waiting = [space.id for space in ready if not await is_settled(conn, space)]
    for space_id in waiting:
        begin(store, builds, space_id)


def begin(store: Store, builds: IndexBuilds, space_id: int) -> None:
    """Have a space's index built, in a task of its own."""
    builds.begin(space_id, partial(settle, store, space_id))


async def is_settled(conn: Conn, space: Space) -> bool:
    """Whether a space has the index, and the distance, that its configuration asks for."""
    config = space.config
    if space.distance != config.distance:
        return False
    if config.index.kind == "none":
        return space.index.kind == "none"
    vectors = await hnsw.vectors_to_index(conn, space.id)
    if not vectors:
        return True
    if not space.index.serves(config.index, vectors):
        return False
    return space.index.kind == "none" or await hnsw.is_valid(conn, hnsw.in_use(space))


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
            if await is_settled(conn, space):
                return
            vectors = await hnsw.vectors_to_index(conn, space_id)
        index = await _built(store, space, vectors)
        async with store.transaction() as conn:
            await spaces.use_index(conn, space_id, space.config.distance, index)
            if space.distance != space.config.distance:
                distance = space.config.distance
                await activity.record(conn, WORKER, "distance", space.embedding_version, distance=distance)
            await registry.announce(conn)
        log.info("queries of space %s use index %s: %s", space.embedding_version, index.kind, index.reason)
        await hnsw.drop_others(store, _index(space, index))


async def _built(store: Store, space: Space, vectors: int) -> IndexInUse:
    """The index that serves, once it is there: the first that can be built, and finds enough where that is measured."""
    wanted = space.config.index
    if not vectors and wanted.kind != "none":
        return IndexInUse()  # no index: what is said of it later says why
    said = DECLARED if wanted.kind != "hnsw" else "spec.embedding.index asks for no other"
    found = IndexInUse(kind="none", wanted=wanted, vectors=vectors, reason=said)
    missed: list[str] = []
    for kind in to_try(wanted, space.index, space.column_type, space.dimensions):
        index = IndexInUse(
            kind=kind, m=wanted.m, ef_construction=wanted.ef_construction, wanted=wanted, vectors=vectors
        )
        if not await hnsw.build(store, _index(space, index)):
            missed.append(f"{kind} cannot hold a number of the vectors")
            found = found.model_copy(update={"reason": "; ".join(missed)})
            continue
        if wanted.kind != "auto":
            return index.model_copy(update={"reason": "; ".join([said, *missed])})
        recall = await hnsw.recall(store, _index(space, index))
        measured = f"recall@10 {recall:.3f} of an exact scan over {vectors} vectors"
        found = index.model_copy(update={"reason": "; ".join([f"auto: {measured}", *missed])})
        if recall >= ENOUGH_RECALL:
            break
        missed.append(f"{kind} finds {recall:.3f} only")
    return found


def _index(space: Space, index: IndexInUse) -> Wanted:
    return hnsw.of_space(space, space.config.distance, index)
