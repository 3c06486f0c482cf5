"""`memory-operator worker`: fills and indexes spaces. Imports nothing of what decides about Providers."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from memory_operator.engine.fill.worker import Worker
from memory_operator.engine.ports.sources import SecretReader
from memory_operator.errors import ConfigurationError, SourceUnavailable
from memory_operator.http.server.probes import serve_probes
from memory_operator.kube.client import open_api
from memory_operator.kube.secrets import secret_reader
from memory_operator.logs import get_logger
from memory_operator.metrics import Metrics
from memory_operator.processes.options import ProcessOptions, WorkerOptions
from memory_operator.processes.runtime import in_a_thread, run_parts
from memory_operator.processes.wiring import open_base
from memory_operator.settings import WorkerSettings

log = get_logger(__name__)

_NICE = 5
_SWITCH_SECONDS = 0.001


async def run_worker_process(options: WorkerOptions, stop: asyncio.Event) -> None:
    """Fill and index until `stop` is set, with probes and metrics."""
    metrics = Metrics()

    async def probes(stop: asyncio.Event) -> None:
        await serve_probes(options.probe_host, options.probe_port, ready=_always, metrics=metrics, stop=stop)

    async def work(stop: asyncio.Event) -> None:
        async with _secrets(options) as read_secret:
            await run_worker(options, read_secret, metrics, stop)

    await run_parts(stop, probes=probes, worker=in_a_thread("worker", work))


async def run_worker(options: WorkerOptions, read_secret: SecretReader, metrics: Metrics, stop: asyncio.Event) -> None:
    """Fill and index spaces until `stop` is set."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    _let_queries_go_first()
    async with open_base(options, "memory-worker", read_secret, metrics, stop) as base:
        if base is not None:
            settings = WorkerSettings(options.fills_at_once, options.ledger_days)
            worker = Worker(base.store, base.connector, base.keys, name, settings=settings)
            await worker.run(stop)


def _let_queries_go_first() -> None:
    """A fill takes all the CPU there is: let this thread have it after those that somebody waits for.

    Where the API runs in the same process, it also gets the interpreter sooner.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        thread = threading.get_native_id()
        # Never back up, which needs a privilege: whoever starts us may have been nicer already.
        if os.getpriority(os.PRIO_PROCESS, thread) < _NICE:
            os.setpriority(os.PRIO_PROCESS, thread, _NICE)


@asynccontextmanager
async def _secrets(options: ProcessOptions) -> AsyncIterator[SecretReader]:
    """Secrets of the cluster; where there is none, only Providers that name none are filled."""
    async with AsyncExitStack() as stack:
        try:
            api = await stack.enter_async_context(open_api(options.kubeconfig))
        except ConfigurationError as error:
            if options.kubeconfig is not None:
                raise
            log.warning("no cluster to read Secrets from, so Providers that name one are left to others: %s", error)
            yield _no_secrets
        else:
            yield secret_reader(api)


async def _no_secrets(namespace: str, name: str) -> Mapping[str, str]:
    raise SourceUnavailable(
        f"Secret {namespace}/{name} cannot be read: this worker has no cluster", hint="start it with --kubeconfig FILE"
    )


async def _always() -> str | None:
    return None
