"""Measuring how similar the vectors of each project are to each other: without judgements, calls or training.

A query's best vectors are compared with it (`memory/fusion.py`). Measured once a project has some vectors, and again
whenever they have doubled.
"""

from __future__ import annotations

import asyncio

from memory_operator.memory.dispersion import dispersion_of
from memory_operator.store.db.pool import Store
from memory_operator.store.spaces import dispersions, registry, spaces
from memory_operator.store.spaces.spaces import ACTIVE_STATES, Space

EVERY_SECONDS = 5.0
"""Whether vectors came is looked at so often at most."""

_PROJECTS_AT_ONCE = 20


class DispersionMeasure:
    """Measures what grew; it looks at the counters first, so that nothing is read while nothing is written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counted: dict[int, int] = {}
        self._looked = float("-inf")

    async def measure(self) -> bool:
        """Measure some projects; False when none was left. Raises StoreUnavailable, SpaceVanished."""
        now = asyncio.get_running_loop().time()
        if now - self._looked < EVERY_SECONDS:
            return False
        async with self._store.connection() as conn:
            counted = await registry.counted(conn)
            live = [space for space in await spaces.all_spaces(conn) if space.state in ACTIVE_STATES]
        for space in live:
            if counted.get(space.id, 0) == self._counted.get(space.id, 0):
                continue
            if await measure_some(self._store, space, _PROJECTS_AT_ONCE) == _PROJECTS_AT_ONCE:
                return True
            self._counted[space.id] = counted.get(space.id, 0)
        self._looked = now
        return False


async def measure_some(store: Store, space: Space, limit: int) -> int:
    """Measure at most so many of a space's projects that need it; how many there were. Raises SpaceVanished."""
    async with store.connection() as conn:
        due = await dispersions.due(conn, space.id, limit)
    for project_id, count in due.items():
        async with store.connection() as conn:
            vectors = await dispersions.sample(conn, space.id, project_id)
        if len(vectors) < 2:  # the others were removed meanwhile
            continue
        dispersion = await asyncio.to_thread(dispersion_of, vectors, space.distance)
        async with store.connection() as conn:
            await dispersions.record(conn, space.id, project_id, count, dispersion)
    return len(due)
