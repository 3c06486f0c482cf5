"""Turns: who has the next place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fixtures.waiting import ends, until
from memory_operator.turns import BESIDE_SECONDS, TURN, Turn, Turns, aside

NEVER = 1e6


class Line:
    """Callers who wait for places, and those who have one."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.served: list[tuple[str, ...]] = []
        self.has: list[Turn] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def come(self, *callers: Sequence[str]) -> None:
        """Let callers come one after the other, and let each have a place that is theirs by now."""
        for who in callers:
            self._tasks.add(asyncio.create_task(self._one(*who), name=f"{who}"))
            await settle()

    async def _one(self, *who: str) -> None:
        self.has.append(await self.turns.take(*who))
        self.served.append(who)

    async def leave(self) -> None:
        """Let the one go who has a place for longest."""
        self.turns.give_back(self.has.pop(0))
        await settle()

    async def end(self) -> None:
        """Let all go, until nobody waits."""
        while self.has:
            await self.leave()
        await ends(asyncio.gather(*self._tasks), "all had a place")


async def settle() -> None:
    """Let everything run that is ready to."""
    for _ in range(5):
        await asyncio.sleep(0)


BUSY, SMALL = ("busy", "b"), ("small", "s")


async def test_a_place_that_gets_free_goes_to_the_group_that_has_the_fewest_whatever_its_callers_are() -> None:
    line = Line(Turns(2))
    await line.come(*([("busy", f"caller {number}") for number in range(64)]), SMALL)
    await line.leave()
    assert line.served[2:] == [SMALL]
    await line.end()
    assert len(line.served) == 65


async def test_callers_of_one_group_have_its_places_in_turns() -> None:
    line = Line(Turns(1))
    await line.come(*[BUSY] * 4, *[("busy", "other")] * 2)
    await line.end()
    other = ("busy", "other")
    assert line.served == [BUSY, BUSY, other, BUSY, other, BUSY]


async def test_alone_a_group_has_all_places_and_beside_others_only_some() -> None:
    now = 0.0
    line = Line(Turns(8, at_work_beside=2, at_work_seconds=NEVER, clock=lambda: now))
    await line.come(*[BUSY] * 24)
    assert len(line.has) == 8
    await line.leave()
    assert len(line.has) == 8, "alone each place is taken again at once"
    await line.come(SMALL)
    for _ in range(6):
        await line.leave()
    assert line.served[-1] == SMALL
    assert [turn.who for turn in line.has] == [BUSY, BUSY, SMALL], "and five places are free"
    await line.leave()
    assert [turn.who for turn in line.has] == [BUSY, SMALL, BUSY]
    await line.leave()
    await line.leave()  # the small one
    now = BESIDE_SECONDS / 2
    await line.leave()
    assert [turn.who for turn in line.has] == [BUSY, BUSY], "it was there only just now"
    now = BESIDE_SECONDS + 1
    await line.leave()
    assert [turn.who for turn in line.has] == [BUSY] * 8
    await line.end()


async def test_who_waits_for_a_vendor_lets_another_of_their_group_work_and_counts_again_afterwards() -> None:
    line = Line(Turns(8, at_work_beside=1, at_work_seconds=NEVER))
    await line.come(SMALL, *[BUSY] * 3)
    assert line.served == [SMALL, BUSY]
    TURN.set(line.has[1])
    with aside():
        await until(lambda: len(line.served) == 3, "another one is at work")
    assert line.served == [SMALL, BUSY, BUSY]
    line.turns.give_back(line.has.pop(2))
    await settle()
    assert line.served == [SMALL, BUSY, BUSY], "the first is at work again"
    await line.end()


async def test_a_turn_that_is_over_is_never_at_work_again() -> None:
    line = Line(Turns(8, at_work_beside=1, at_work_seconds=NEVER))
    await line.come(SMALL, BUSY)
    TURN.set(line.has[1])
    with aside():
        line.turns.give_back(line.has.pop())
    await line.come(BUSY)
    assert line.served == [SMALL, BUSY, BUSY]
    await line.end()


@pytest.mark.parametrize("seconds", [0.0, 0.001])
async def test_who_has_a_place_for_long_keeps_no_other_of_their_group_waiting(seconds: float) -> None:
    line = Line(Turns(8, at_work_beside=1, at_work_seconds=seconds))
    await line.come(SMALL, *[BUSY] * 4)
    await until(lambda: line.served == [SMALL, *[BUSY] * 4], "each had its time")
    await line.end()


async def test_a_group_without_a_name_is_nobodys_neighbour_and_has_none() -> None:
    line = Line(Turns(8, at_work_beside=1, at_work_seconds=NEVER))
    await line.come(("", ""), *[BUSY] * 3)
    assert len(line.has) == 4
    await line.come(SMALL, *[("", "")] * 2)
    assert len(line.has) == 7
    await line.end()


async def test_no_caller_has_more_than_the_most_whoever_else_is_there() -> None:
    line = Line(Turns(4, most=2))
    await line.come(*[("greedy",)] * 3)
    assert len(line.has) == 2
    await line.come(("other",))
    assert line.served[-1] == ("other",)
    await line.end()


async def test_who_no_longer_waits_keeps_nobody_waiting() -> None:
    turns = Turns(1)
    first = await turns.take("a", "a")
    gone = asyncio.create_task(turns.take("b", "b"))
    next_one = asyncio.create_task(turns.take("c", "c"))
    await settle()
    gone.cancel()
    turns.give_back(first)
    turns.give_back(await ends(next_one, "the next has the place"))
    with pytest.raises(asyncio.CancelledError):
        await gone
    turns.give_back(await ends(turns.take("a", "a"), "the place is free"))


async def test_who_is_cancelled_with_a_place_just_given_gives_it_back() -> None:
    turns = Turns(1)
    first = await turns.take("a", "a")
    gone = asyncio.create_task(turns.take("b", "b"))
    await settle()
    turns.give_back(first)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    turns.give_back(await ends(turns.take("a", "a"), "the place is free"))
