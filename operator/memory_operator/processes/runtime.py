"""Event loops: the main one with its signals, and those of parts that need one of their own."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from memory_operator.logs import get_logger

log = get_logger(__name__)

STOP_SECONDS = 20.0

Part = Callable[[asyncio.Event], Awaitable[None]]
"""Something that runs until the event is set, and then ends by itself."""


LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def serving_loop() -> asyncio.AbstractEventLoop:
    """An event loop for what serves: libuv's where it is installed, which takes less CPU, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def keep_for_good(_port: int) -> None:
    """Let no collection of garbage look again at what there is by now: modules and models, 120,000 objects.

    A full one kept the API's event loop for 70 ms of CPU, and longer on a busy machine.
    """
    gc.freeze()


@asynccontextmanager
async def signals_stop() -> AsyncIterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set. Python as process 1 ignores both unless somebody handles them."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def run_parts(stop: asyncio.Event, **parts: Part) -> None:
    """Run parts side by side until `stop` is set; the first that fails or ends stops the others.

    Raises what the first failing part raised. A part that does not end within STOP_SECONDS is cancelled.
    """
    tasks = [asyncio.ensure_future(_named(part(stop))) for part in parts.values()]
    for task, name in zip(tasks, parts, strict=True):
        task.set_name(name)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in late:
            log.warning("%s did not stop within %g s", task.get_name(), STOP_SECONDS)
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=STOP_SECONDS)
    # All are looked at, since one that nobody looks at ends in the log as a traceback.
    errors = [error for task in tasks if not task.cancelled() and (error := task.exception())]
    if errors:
        raise errors[0]


async def _named(awaitable: Awaitable[None]) -> None:
    await awaitable


def in_a_thread(name: str, part: Part, loop: LoopFactory | None = None) -> Part:
    """The same part on an event loop of its own, so that it never waits for another part's Python."""

    async def run(stop: asyncio.Event) -> None:
        done = asyncio.get_running_loop().create_future()
        thread = threading.Thread(target=_host, args=(part, stop, done, loop), name=name, daemon=True)
        thread.start()
        await done

    return run


def _host(part: Part, stop: asyncio.Event, done: asyncio.Future[None], loop: LoopFactory | None) -> None:
    """Body of a part's thread."""
    owner = done.get_loop()

    async def body() -> None:
        own_stop = asyncio.Event()
        here = asyncio.get_running_loop()
        passing_on = asyncio.run_coroutine_threadsafe(_pass_on(stop, here, own_stop), owner)
        try:
            await part(own_stop)
        finally:
            passing_on.cancel()

    error: BaseException | None = None
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(body())
    except BaseException as raised:  # noqa: BLE001 - handed to the loop that awaits this part
        error = raised
    owner.call_soon_threadsafe(_settle, done, error)


async def _pass_on(stop: asyncio.Event, loop: asyncio.AbstractEventLoop, own_stop: asyncio.Event) -> None:
    await stop.wait()
    loop.call_soon_threadsafe(own_stop.set)


def _settle(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
