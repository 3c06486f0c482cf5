"""`memory-operator migrate`: brings the database to this release's schema, and ends."""

from __future__ import annotations

import asyncio

from memory_operator.errors import LockBusy, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.processes.options import MigrateOptions
from memory_operator.store.db.migrate import check_migrated, migrate

log = get_logger(__name__)

_RETRY_SECONDS = 1.0


async def run_migrate(options: MigrateOptions) -> list[str]:
    """Bring a database to this release's schema; names of the migrations that ran.

    A database that is away is waited for. Raises StoreUnavailable after `options.wait_seconds`, ConfigurationError.
    """
    deadline = asyncio.get_running_loop().time() + options.wait_seconds
    while True:
        try:
            if not options.only_wait:
                return await migrate(options.database, options.api_role)
            await check_migrated(options.database)
        except (StoreUnavailable, LockBusy) as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise
            log.warning("waiting for the database: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return []
