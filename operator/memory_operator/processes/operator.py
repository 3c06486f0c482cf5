"""`memory-operator run`: watches Providers of a cluster, and fills, so that a store without workers is served too."""

from __future__ import annotations

import asyncio

from memory_operator.engine.admin.annotation import AnnotatedActivations
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.engine.gate.controller import Operator
from memory_operator.engine.ports.activation import ActivationGuard
from memory_operator.engine.ports.sources import ProviderSource
from memory_operator.http.server.probes import serve_probes
from memory_operator.kube.admission_policy import activation_guard
from memory_operator.kube.client import namespace_of, open_api, served_namespaces
from memory_operator.kube.installations import Installation
from memory_operator.kube.kopf_thread import run_kopf
from memory_operator.kube.secrets import secret_reader
from memory_operator.kube.source import KubeSource
from memory_operator.metrics import Metrics
from memory_operator.processes.options import OperatorOptions
from memory_operator.processes.runtime import Part, in_a_thread, run_parts
from memory_operator.processes.wiring import Base, open_base
from memory_operator.processes.worker import run_worker


class Starting:
    """What the probes answer before and after the operator is there."""

    def __init__(self) -> None:
        self.operator: Operator | None = None

    async def not_ready(self) -> str | None:
        """Why the process is not ready, as the body of a 503; None when it is."""
        return "memory: waiting for the database" if self.operator is None else self.operator.not_ready()


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
            guard = activation_guard(api, options.activate_policy)
            operator = make_operator(options, base, KubeSource(api, namespaces, installation), guard)
            state.operator = operator

            async def watch(stop: asyncio.Event) -> None:
                await run_kopf(operator, options.kubeconfig, namespaces, stop)

            await run_parts(stop, operator=operator.run, kopf=watch)


def make_operator(
    options: OperatorOptions, base: Base, source: ProviderSource, guard: ActivationGuard | None = None
) -> Operator:
    """The operator of one source; without a guard no annotation activates anything."""
    requests = AnnotatedActivations(base.store, Catalog(base.store), guard) if guard is not None else None
    return Operator(base.store, source, base.connector, options.engine_settings(), requests)
