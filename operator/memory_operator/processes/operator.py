"""`memory-operator run`: watches Providers of a cluster, and fills, so that a store without workers is served too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from memory_operator.engine.gate.controller import Operator
from memory_operator.engine.ports.sources import SecretReader
from memory_operator.errors import ConfigurationError, SourceUnavailable
from memory_operator.http.server.probes import serve_probes
from memory_operator.kube.client import namespace_of, open_api
from memory_operator.kube.installations import Installation
from memory_operator.kube.kopf_thread import run_kopf
from memory_operator.kube.secrets import secret_reader
from memory_operator.kube.source import KubeSource
from memory_operator.logs import get_logger
from memory_operator.metrics import Metrics
from memory_operator.processes.options import OperatorOptions, ProcessOptions, WorkerOptions
from memory_operator.processes.runtime import Part, in_a_thread, run_parts
from memory_operator.processes.wiring import make_operator, open_base, run_worker

log = get_logger(__name__)


class Starting:
    """What the probes answer before and after the operator is there."""

    def __init__(self) -> None:
        self.operator: Operator | None = None

    async def not_ready(self) -> str | None:
        """Why the process is not ready, as the body of a 503; None when it is."""
        return "memory: waiting for the database" if self.operator is None else self.operator.not_ready()


def served_namespaces(namespaces: tuple[str, ...], kubeconfig: Path | None) -> tuple[str, ...]:
    """The namespaces whose Providers are acted on; the process's own when none are named."""
    return namespaces or (namespace_of(kubeconfig),)


async def run_operator(options: OperatorOptions, stop: asyncio.Event) -> None:
    """Run until `stop` is set. Raises NeedsConsent in Exit mode, ConfigurationError."""
    state, metrics = Starting(), Metrics()

    async def probes(stop: asyncio.Event) -> None:
        await serve_probes(options.probe_host, options.probe_port, ready=state.not_ready, metrics=metrics, stop=stop)

    async def operate(stop: asyncio.Event) -> None:
        await watch_cluster(options, metrics, stop, state)

    async def work(stop: asyncio.Event) -> None:
        async with open_api(options.kubeconfig) as api:
            await run_worker(options, secret_reader(api), metrics, stop)

    parts: dict[str, Part] = {"probes": probes, "operator": operate}
    if options.fill:
        parts["worker"] = in_a_thread("worker", work)
    await run_parts(stop, **parts)


async def watch_cluster(options: OperatorOptions, metrics: Metrics, stop: asyncio.Event, state: Starting) -> None:
    """The operator on a cluster: our loop reconciles, kopf tells what changed."""
    namespaces = served_namespaces(options.namespaces, options.kubeconfig)
    async with open_api(options.kubeconfig) as api:
        read_secret = secret_reader(api)
        async with open_base(options, "memory-operator", read_secret, metrics, stop) as base:
            if base is None:
                return
            installation = Installation(options.installation or namespace_of(options.kubeconfig))
            operator = make_operator(options, base, KubeSource(api, namespaces, installation))
            state.operator = operator

            async def watch(stop: asyncio.Event) -> None:
                await run_kopf(operator, options.kubeconfig, namespaces, stop)

            await run_parts(stop, operator=operator.run, kopf=watch)


async def run_worker_process(options: WorkerOptions, stop: asyncio.Event) -> None:
    """`memory-operator worker`: fill and index until `stop` is set."""
    metrics = Metrics()

    async def probes(stop: asyncio.Event) -> None:
        await serve_probes(options.probe_host, options.probe_port, ready=_always, metrics=metrics, stop=stop)

    async def work(stop: asyncio.Event) -> None:
        async with _secrets(options) as read_secret:
            await run_worker(options, read_secret, metrics, stop)

    await run_parts(stop, probes=probes, worker=in_a_thread("worker", work))


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
