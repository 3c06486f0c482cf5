"""A space that is discarded while others work for it: they are told so, by one error."""

from __future__ import annotations

import pytest

from fixtures.engine import World
from fixtures.memories import Memories, config
from memory_operator.errors import SpaceVanished
from memory_operator.store.spaces import registry, spaces, vectors
from memory_operator.store.usage import ledger
from memory_operator.store.usage.ledger import Intent, Share


async def test_a_call_for_a_space_that_was_discarded_meanwhile_is_told_so(world: World, memories: Memories) -> None:
    space = await memories.space(config())
    async with world.store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        await spaces.discard(conn, space)
    with pytest.raises(SpaceVanished):
        async with world.store.transaction() as conn:
            await ledger.intend(conn, Intent.of(space, "fill", [Share(None, 1, 1)]))
    with pytest.raises(SpaceVanished):
        async with world.store.connection() as conn:
            await vectors.count(conn, space.id)
