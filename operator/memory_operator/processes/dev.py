"""`memory-operator dev`: all of it in one process, on one machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from memory_operator.backoff import wait_for_event
from memory_operator.dev.config.source import ConfigSource
from memory_operator.dev.folder import FolderLock, prepare_folder, remove_leftovers
from memory_operator.dev.manifests.source import FolderSource
from memory_operator.dev.postgres.server import EmbeddedPostgres
from memory_operator.dev.sample import write_sample_provider
from memory_operator.engine.admin.selection import FileCatalog
from memory_operator.engine.ports.sources import SecretReader
from memory_operator.errors import ConfigurationError, MemoryOperatorError, Retryable
from memory_operator.http.serve import serve_api
from memory_operator.kube.client import open_api
from memory_operator.kube.cluster_view import KubeClusterView
from memory_operator.kube.secrets import secret_reader
from memory_operator.logs import get_logger
from memory_operator.memory.keyfile import generate_master_key, read_master_key
from memory_operator.metrics import Metrics
from memory_operator.processes.api import make_auth, make_services
from memory_operator.processes.operator import Starting, make_operator, watch_cluster
from memory_operator.processes.options import ApiOptions, CombinedOptions, DevOptions, OperatorOptions
from memory_operator.processes.runtime import Part, in_a_thread, keep_for_good, run_parts, serving_loop
from memory_operator.processes.sample import greet, load_sample
from memory_operator.processes.wiring import open_base
from memory_operator.processes.worker import run_worker
from memory_operator.store.db.migrate import migrate
from memory_operator.store.db.pool import open_store
from memory_operator.store.memories.tenants import check_or_store_key, stored_fingerprint

log = get_logger(__name__)

HOST = "127.0.0.1"
_ALIVE_SECONDS = 1.0
_LISTENS_SECONDS = 0.1
_FOLLOW_SECONDS = 0.5
_FOLLOWS_BEFORE_WARNING = 10
"""A new backend's space takes a moment."""
_OWN_KEYS = ("OPENAI_API_KEY", "OPENAI_TOKEN")
"""Variables that a Provider may name on one's own machine without further ado."""


async def run_dev(dev: DevOptions, stop: asyncio.Event) -> None:
    """Run everything until `stop` is set. Raises ConfigurationError, NeedsConsent (Exit mode)."""
    _refuse_two_sources(dev)
    async with AsyncExitStack() as stack:
        data = await asyncio.to_thread(prepare_folder, dev.data)
        stack.enter_context(FolderLock(data))
        source = None if dev.kubeconfig else await asyncio.to_thread(_source, dev, data)
        dsn = await stack.enter_async_context(_database(dev, data))
        for name in await migrate(dsn):
            log.info("migrated %s", name)
        options = _options(dev, data, dsn)
        await _prepare_master_key(options)
        if source is None:
            await _run_with_cluster(options, stop)
        else:
            await _run_on_this_machine(dev, data, options, source, stop)


def _refuse_two_sources(dev: DevOptions) -> None:
    others = {"--providers": dev.providers, "--kubeconfig": dev.kubeconfig, "--sample": dev.sample or None}
    given = [option for option, value in others.items() if value is not None]
    if dev.config is not None and given:
        raise ConfigurationError(
            f"--config and {given[0]} do not go together", hint="Providers come from one place: leave one of them out"
        )


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
    return CombinedOptions(
        database_url=dsn,
        master_key_file=data / "master.key",
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


async def _prepare_master_key(options: CombinedOptions) -> None:
    """Make the key of a new store. Raises ConfigurationError for a store that has lost its key, or was given another.

    A new key for an old store would make all that is in it unreadable.
    """
    async with (
        await open_store(options.database_url, application="memory-dev", max_size=1) as store,
        store.connection() as conn,
    ):
        if not options.master_key_file.exists():
            made_with = await stored_fingerprint(conn)
            if made_with is not None:
                raise ConfigurationError(
                    f"{options.master_key_file} is missing, and this database was made with the master key {made_with}",
                    hint="restore that file from a backup, or start anew with another folder (--data)",
                )
            await asyncio.to_thread(generate_master_key, options.master_key_file)
        await check_or_store_key(conn, await asyncio.to_thread(read_master_key, options.master_key_file))


async def _run_on_this_machine(
    dev: DevOptions, data: Path, options: CombinedOptions, source: FolderSource, stop: asyncio.Event
) -> None:
    metrics, listens = Metrics(), threading.Event()

    async def operate(stop: asyncio.Event) -> None:
        await _operate_folder(options, source, metrics, stop)

    async def work(stop: asyncio.Event) -> None:
        await run_worker(options, source.read_secret, metrics, stop)

    async def serve(stop: asyncio.Event) -> None:
        await _serve(options, source, metrics, stop, listening=lambda _: listens.set())

    async def welcome(stop: asyncio.Event) -> None:
        if dev.sample:
            await load_sample(options, source.read_secret, metrics, stop)
        while not listens.is_set() and not stop.is_set():
            await wait_for_event(stop, _LISTENS_SECONDS)
        if not stop.is_set():
            greet(options, source.place, data, sample=dev.sample)
        await stop.wait()

    await run_parts(
        stop,
        api=in_a_thread("api", serve, serving_loop),
        operator=operate,
        worker=in_a_thread("worker", work),
        welcome=in_a_thread("welcome", welcome),
    )


def _source(dev: DevOptions, data: Path) -> FolderSource:
    """Where Providers come from on this machine. Raises ConfigurationError."""
    if dev.config is not None:
        config = ConfigSource(dev.config.absolute(), environment=dev.environment, state=data)
        config.check()
        remove_leftovers(dev.config)
        return config
    folder = prepare_folder(dev.providers or data / "providers", option="--providers")
    if dev.sample:
        write_sample_provider(folder)
    return FolderSource(folder, state=data)


async def _anybody() -> None:
    """Whoever may write the folder may activate, too."""


async def _operate_folder(
    options: OperatorOptions, source: FolderSource, metrics: Metrics, stop: asyncio.Event
) -> None:
    async with open_base(options, "memory-operator", source.read_secret, metrics, stop) as base:
        if base is None:
            return
        operator = make_operator(options, base, source, None if isinstance(source, ConfigSource) else _anybody)

        async def watch(stop: asyncio.Event) -> None:
            await source.watch(operator.enqueue, operator.listed_again, stop)

        parts: dict[str, Part] = {"operator": operator.run, "folder": watch}
        if isinstance(source, ConfigSource):
            catalog = FileCatalog(base.store, source)

            async def follow(stop: asyncio.Event) -> None:
                await _follow(catalog, source.name, stop)

            parts["selection"] = follow
        await run_parts(stop, **parts)


async def _follow(catalog: FileCatalog, name: str, stop: asyncio.Event) -> None:
    """Let queries read what the configuration file says, also after an edit, until `stop` is set."""
    waited = 0
    while not stop.is_set():
        try:
            waits = await catalog.follow()
        except Retryable as error:
            waits = error.message
        waited = waited + 1 if waits else 0
        if waited == _FOLLOWS_BEFORE_WARNING:
            log.warning("what %s says of the active backend waits, retrying in %g s: %s", name, _FOLLOW_SECONDS, waits)
        await wait_for_event(stop, _FOLLOW_SECONDS)


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

    await run_parts(
        stop, api=in_a_thread("api", serve, serving_loop), operator=operate, worker=in_a_thread("worker", work)
    )


async def _serve(
    options: ApiOptions,
    source: FolderSource | SecretReader,
    metrics: Metrics,
    stop: asyncio.Event,
    *,
    listening: Callable[[int], None] | None = None,
) -> None:
    async with AsyncExitStack() as stack:
        api = None
        if options.auth_mode == "kubernetes":
            api = await stack.enter_async_context(open_api(options.kubeconfig))
        auth = make_auth(options, api)
        read_secret = source.read_secret if isinstance(source, FolderSource) else source
        base = await stack.enter_async_context(open_base(options, "memory-api", read_secret, metrics, stop))
        if base is not None:
            services = make_services(
                base,
                FileCatalog(base.store, source) if isinstance(source, ConfigSource) else None,
                KubeClusterView(api) if api is not None else None,
            )

            def begun(port: int) -> None:
                keep_for_good(port)
                if listening is not None:
                    listening(port)

            await serve_api(services, auth, (options.host, options.port), stop, probes=True, listening=begun)
