"""Many Providers, most of them somebody else's: at rest they cost one listing now and then, and nothing is written."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

from fixtures.crowd import crowd, edit_others, requests_so_far
from fixtures.engine import World
from fixtures.kube import Namespace
from fixtures.kube_operator import operating
from fixtures.waiting import until

EMBEDDING, OTHERS = 10, 190
LISTINGS = 5


async def test_those_of_other_roles_are_listed_and_neither_read_one_by_one_nor_written_also_when_they_are_edited(
    world: World, served: Namespace
) -> None:
    await asyncio.to_thread(crowd, served.control_plane, served.name, embedding=EMBEDDING, others=OTHERS)
    world.settings = replace(world.settings, listing_seconds=1)

    async def all_ready() -> bool:
        items = await asyncio.to_thread(served.items, "providers")
        return sum(item.get("status", {}).get("phase") == "Ready" for item in items) == EMBEDDING

    async def counted() -> Counter[tuple[str, str]]:
        return await asyncio.to_thread(requests_so_far, served.control_plane)

    async def after(listings: int) -> Counter[tuple[str, str]]:
        """What was counted when so many listings more had come."""
        wanted = (await counted())["LIST", "providers"] + listings

        async def come() -> Counter[tuple[str, str]] | None:
            found = await counted()
            return found if found["LIST", "providers"] >= wanted else None

        found: Counter[tuple[str, str]] = await until(come, f"{listings} listings more")
        return found

    async def spent(listings: int) -> set[tuple[str, str]]:
        """What was asked for while so many listings more came."""
        before = await counted()
        now = await after(listings)
        now.subtract(before)
        return {key for key, count in now.items() if count}

    async def at_rest() -> bool:
        return await spent(1) == {("LIST", "providers")}

    async with operating(world, served), world.worker():
        await until(all_ready, "all of ours are Ready")
        await until(at_rest, "every event of the start is handled")
        before = await counted()
        assert before["PATCH", "providers"] >= EMBEDDING, "what is written is counted"
        assert EMBEDDING <= before["GET", "providers"] < OTHERS, "what is read is counted, and is ours"
        assert await spent(LISTINGS) == {("LIST", "providers")}
        before = await counted()
        await asyncio.to_thread(edit_others, served.control_plane, served.name, others=OTHERS)
        now = await after(LISTINGS)
        now.subtract(before)
        assert now["GET", "providers"] == 0, "the watch has told what they are"
        assert now["PATCH", "providers"] == OTHERS, "these are the edits themselves"
