"""LISTEN on a connection of its own, that comes back by itself after the server went away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from memory_operator.backoff import jittered
from memory_operator.errors import StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.store.db.pool import Store

log = get_logger(__name__)

_CHECK_SECONDS = 10.0
_BACK_SECONDS = 0.5


_PING = """select 1"""


async def listen(store: Store, application: str, channels: Sequence[str]) -> AsyncGenerator[str, None]:
    """Yield the channel of each notification, and each channel once whenever the connection is made (anew).

    Notifications that were sent while there was no connection are lost: hence the yield at each new one.
    """
    while True:
        heard: asyncio.Queue[str] = asyncio.Queue()
        try:
            async with store.dedicated(application) as conn:
                for channel in channels:
                    await conn.add_listener(channel, _into(heard))
                    heard.put_nowait(channel)
                while True:
                    try:
                        async with asyncio.timeout(_CHECK_SECONDS):
                            channel = await heard.get()
                    except TimeoutError:
                        await conn.execute(_PING, timeout=5)  # notices a connection that died in silence
                        continue
                    yield channel
        except StoreUnavailable as error:
            pause = jittered(_BACK_SECONDS)
            log.info("listening again in %.1f s: %s", pause, error)
            await asyncio.sleep(pause)


def _into(heard: asyncio.Queue[str]) -> Callable[[object, int, str, object], None]:
    return lambda _connection, _pid, channel, _payload: heard.put_nowait(channel)
