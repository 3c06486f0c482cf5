"""`memory-operator dev`: all of it in one process, on one machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from memory_operator.dev.folder import FolderLock, prepare_folder
from memory_operator.dev.manifests.source import FolderSource
from memory_operator.dev.postgres.server import EmbeddedPostgres
from memory_operator.dev.sample import write_sample_provider
from memory_operator.engine.ports.sources import SecretReader
from memory_operator.errors import MemoryOperatorError
from memory_operator.http.serve import serve_api
from memory_operator.kube.client import open_api
from memory_operator.kube.secrets import secret_reader
from memory_operator.logs import get_logger
from memory_operator.memory.keyfile import generate_master_key
from memory_operator.metrics import Metrics
from memory_operator.processes.api import make_auth, make_services
from memory_operator.processes.operator import Starting, watch_cluster
from memory_operator.processes.options import ApiOptions, CombinedOptions, DevOptions, OperatorOptions
from memory_operator.processes.runtime import in_a_thread, run_parts
from memory_operator.processes.sample import greet, load_sample
from memory_operator.processes.wiring import make_operator, open_base, run_worker
from memory_operator.store.db.migrate import migrate

log = get_logger(__name__)

HOST = "127.0.0.1"
_ALIVE_SECONDS = 1.0
_OWN_KEYS = ("OPENAI_API_KEY", "OPENAI_TOKEN")
"""Variables that a Provider may name on one's own machine without further ado."""


async def run_dev(dev: DevOptions, stop: asyncio.Event) -> None:
    """Run everything until `stop` is set. Raises ConfigurationError, NeedsConsent (Exit mode)."""
    async with AsyncExitStack() as stack:
        data = await asyncio.to_thread(prepare_folder, dev.data)
        stack.enter_context(FolderLock(data))
        dsn = await stack.enter_async_context(_database(dev, data))
        for name in await migrate(dsn):
            log.info("migrated %s", name)
        options = _options(dev, data, dsn)
        if dev.kubeconfig is not None:
            await _run_with_cluster(options, stop)
        else:
            await _run_with_folder(dev, data, options, stop)


@asynccontextmanager
async def _database(dev: DevOptions, data: Path) -> AsyncIterator[str]:
    """URL of the database: the one that was named, or the embedded server, adopted, watched, stopped at the end."""
    if dev.database_url is not None:
        yield dev.database_url
        return
    postgres = EmbeddedPostgres(data)
    running = await asyncio.to_thread(postgres.start)
    log.info('PostgreSQL %d at 127.0.0.1:%d; psql "$(cat %s)"', running.major, running.port, running.url_file)
    watching = asyncio.create_task(_keep_alive(postgres), name="PostgreSQL watch")
    try:
        yield running.dsn
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        await asyncio.to_thread(postgres.stop)


async def _keep_alive(postgres: EmbeddedPostgres) -> None:
    """Start the server again when it has died under us."""
    while True:
        await asyncio.sleep(_ALIVE_SECONDS)
        if not postgres.alive:
            log.error("PostgreSQL has ended; it is started again")
            try:
                await asyncio.to_thread(postgres.start)
            except MemoryOperatorError as error:
                log.error("PostgreSQL does not start: %s", error)  # noqa: TRY400 - told, and tried again


def _options(dev: DevOptions, data: Path, dsn: str) -> CombinedOptions:
    key_file = data / "master.key"
    if not key_file.exists():
        generate_master_key(key_file)
    return CombinedOptions(
        database_url=dsn,
        master_key_file=key_file,
        environment=dev.environment,
        kubeconfig=dev.kubeconfig,
        namespaces=dev.namespaces,
        on_unconsented_change=dev.on_unconsented_change,
        credential_env_vars=(*_OWN_KEYS, *dev.credential_env_vars),
        host=HOST,
        port=dev.port,
        auth_mode=dev.auth_mode,
        tokens_file=dev.tokens_file,
    )


async def _run_with_folder(dev: DevOptions, data: Path, options: CombinedOptions, stop: asyncio.Event) -> None:
    folder = await asyncio.to_thread(prepare_folder, dev.providers or data / "providers", option="--providers")
    if dev.sample:
        await asyncio.to_thread(write_sample_provider, folder)
    source, metrics = FolderSource(folder, state=data), Metrics()

    async def operate(stop: asyncio.Event) -> None:
        await _operate_folder(options, source, metrics, stop)

    async def work(stop: asyncio.Event) -> None:
        await run_worker(options, source.read_secret, metrics, stop)

    async def serve(stop: asyncio.Event) -> None:
        await _serve(options, source.read_secret, metrics, stop)

    async def welcome(stop: asyncio.Event) -> None:
        if dev.sample:
            await load_sample(options, source.read_secret, metrics, stop)
        await _until_served(options, stop)
        if not stop.is_set():
            greet(options.port, folder, data, sample=dev.sample)
        await stop.wait()

    await run_parts(
        stop,
        api=in_a_thread("api", serve),
        operator=operate,
        worker=in_a_thread("worker", work),
        welcome=in_a_thread("welcome", welcome),
    )


async def _operate_folder(
    options: OperatorOptions, source: FolderSource, metrics: Metrics, stop: asyncio.Event
) -> None:
    async with open_base(options, "memory-operator", source.read_secret, metrics, stop) as base:
        if base is None:
            return
        operator = make_operator(options, base, source)

        async def watch(stop: asyncio.Event) -> None:
            await source.watch(operator.enqueue, operator.listed_again, stop)

        await run_parts(stop, operator=operator.run, folder=watch)


async def _run_with_cluster(options: CombinedOptions, stop: asyncio.Event) -> None:
    """Providers and Secrets from a cluster; the rest on this machine."""
    state, metrics = Starting(), Metrics()

    async def operate(stop: asyncio.Event) -> None:
        await watch_cluster(options, metrics, stop, state)

    async def work(stop: asyncio.Event) -> None:
        async with open_api(options.kubeconfig) as api:
            await run_worker(options, secret_reader(api), metrics, stop)

    async def serve(stop: asyncio.Event) -> None:
        async with open_api(options.kubeconfig) as api:
            await _serve(options, secret_reader(api), metrics, stop)

    await run_parts(stop, api=in_a_thread("api", serve), operator=operate, worker=in_a_thread("worker", work))


async def _serve(options: ApiOptions, read_secret: SecretReader, metrics: Metrics, stop: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        api = None
        if options.auth_mode == "kubernetes":
            api = await stack.enter_async_context(open_api(options.kubeconfig))
        auth = make_auth(options, api)
        base = await stack.enter_async_context(open_base(options, "memory-api", read_secret, metrics, stop))
        if base is not None:
            await serve_api(make_services(base), auth, options.host, options.port, stop, probes=True)


async def _until_served(options: ApiOptions, stop: asyncio.Event) -> None:
    """Wait until the API's port takes connections."""
    while not stop.is_set():
        try:
            async with asyncio.timeout(1):
                _, writer = await asyncio.open_connection(options.host, options.port)
        except (OSError, TimeoutError):
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
