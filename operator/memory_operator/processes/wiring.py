"""What every process that has a store stands on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from memory_operator.backoff import wait_for_event
from memory_operator.embedders import EmbedderPool
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.ports.sources import SecretReader
from memory_operator.errors import LockBusy, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.memory.encryption import MasterKey
from memory_operator.memory.keyfile import read_master_key
from memory_operator.metrics import Metrics
from memory_operator.processes.options import ProcessOptions
from memory_operator.store.db.migrate import check_schema
from memory_operator.store.db.pool import Store, open_store
from memory_operator.store.memories.tenants import KeyRing, check_or_store_key

log = get_logger(__name__)

_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Base:
    """What every part of the engine stands on; of one event loop."""

    store: Store
    connector: Connector
    keys: KeyRing


@asynccontextmanager
async def open_base(
    options: ProcessOptions, application: str, read_secret: SecretReader, metrics: Metrics, stop: asyncio.Event
) -> AsyncIterator[Base | None]:
    """Open the store, waiting for a database that is not there yet; None when told to stop meanwhile.

    Raises ConfigurationError: another master key, a schema that is behind or ahead, a transaction pooler.
    """
    master = read_master_key(options.master_key_file)
    store = await _open_when_there(options, application, master, metrics, stop)
    if store is None:
        yield None
        return
    settings = options.engine_settings()
    async with store, EmbedderPool() as pool:
        connector = Connector(pool, read_secret, settings.credentials, settings.environment, master.credential_proof)
        yield Base(store, connector, KeyRing(master))


async def _open_when_there(
    options: ProcessOptions, application: str, master: MasterKey, metrics: Metrics, stop: asyncio.Event
) -> Store | None:
    while not stop.is_set():
        try:
            store = await open_store(
                options.database, application=application, max_size=options.database_connections, metrics=metrics
            )
            async with store.connection() as conn:
                await check_schema(conn)
                await check_or_store_key(conn, master)
        except (StoreUnavailable, LockBusy) as error:
            log.warning("waiting for the database: %s", error)
            await wait_for_event(stop, _RETRY_SECONDS)
        else:
            return store
    return None
