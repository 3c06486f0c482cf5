"""One-shot commands: migrate, check."""

from __future__ import annotations

from dataclasses import dataclass

from memory_operator.embedders import EmbedderPool
from memory_operator.engine.check import Comparison, compare
from memory_operator.engine.connect import Connector
from memory_operator.engine.sources import ProviderSource, SecretReader
from memory_operator.processes.options import Options
from memory_operator.store.migrate import check_schema, migrate
from memory_operator.store.pool import open_store


@dataclass(frozen=True, slots=True)
class CheckTarget:
    """What a check compares the database with."""

    source: ProviderSource
    read_secret: SecretReader


async def run_migrate(database_url: str) -> list[str]:
    """Bring a database to this release's schema; names of the migrations that ran."""
    return await migrate(database_url)


async def run_check(options: Options, target: CheckTarget) -> list[Comparison]:
    """Compare every Provider with what is stored, and change nothing."""
    settings = options.engine_settings()
    async with await open_store(options.database_url, application="memory-check", max_size=2) as store:
        async with store.connection() as conn:
            await check_schema(conn)
        async with EmbedderPool() as pool:
            connector = Connector(pool, target.read_secret, settings.credentials, settings.environment)
            return await compare(store, target.source, connector)
