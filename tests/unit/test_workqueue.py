"""The order in which Providers are reconciled."""

from __future__ import annotations

import asyncio

from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.gate.workqueue import ReconcileQueue
from memory_operator.errors import StoreUnavailable


def ref(name: str) -> ProviderRef:
    return ProviderRef("default", name)


async def order_of(queue: ReconcileQueue, count: int) -> list[str]:
    """The names of the next reconciles."""
    done: list[str] = []

    async def handle(provider: ProviderRef) -> None:
        done.append(provider.name)

    working = asyncio.create_task(queue.work(handle), name="work")
    await until(lambda: len(done) == count, "all are reconciled")
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return done


async def test_an_edit_waits_for_none_of_those_that_nothing_changed_of() -> None:
    queue = ReconcileQueue()
    for number in range(50):
        queue.enqueue(ref(f"dead-{number}"), idle=True)
    queue.enqueue(ref("edited"))
    queue.enqueue(ref("dead-7"))  # which somebody edited, too
    queue.enqueue(ref("consented"), first=True)
    assert (await order_of(queue, 52))[:4] == ["consented", "edited", "dead-7", "dead-0"]


async def test_a_provider_is_reconciled_once_however_often_it_is_asked_for() -> None:
    queue = ReconcileQueue()
    for idle in (True, False, True):
        queue.enqueue(ref("one"), idle=idle)
    queue.enqueue(ref("other"), idle=True)
    assert await order_of(queue, 2) == ["one", "other"]


async def test_what_failed_is_tried_again_and_keeps_no_other_waiting() -> None:
    queue = ReconcileQueue()
    done: list[str] = []

    async def handle(provider: ProviderRef) -> None:
        done.append(provider.name)
        if done == ["failing"]:
            queue.enqueue(ref("edited"))
            raise StoreUnavailable("no database")

    queue.enqueue(ref("failing"))
    working = asyncio.create_task(queue.work(handle), name="work")
    await until(lambda: len(done) == 3, "it is tried again")
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert done == ["failing", "edited", "failing"]
