"""`memory-operator api`: the memory API and the admin API."""

from __future__ import annotations

import asyncio
from typing import Any

from memory_operator.engine.admin.consents import Consents
from memory_operator.engine.admin.doctor.examine import Doctor
from memory_operator.engine.admin.jobs import Jobs
from memory_operator.engine.admin.projects import Projects
from memory_operator.engine.admin.rehearsals import Rehearsals
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.engine.admin.usage import Accounts
from memory_operator.engine.memories.compare import Comparer
from memory_operator.engine.memories.recall import Recall
from memory_operator.engine.memories.remember import Remember
from memory_operator.engine.ports.cluster import ClusterView
from memory_operator.http.auth.base import Authenticator
from memory_operator.http.auth.kubernetes import kubernetes_auth
from memory_operator.http.auth.none import no_auth
from memory_operator.http.auth.tokens import token_auth
from memory_operator.http.serve import serve_api
from memory_operator.http.server.probes import serve_probes
from memory_operator.http.services import Services
from memory_operator.kube.client import open_api
from memory_operator.kube.cluster_view import KubeClusterView
from memory_operator.kube.reviews import access_reviewer, token_reviewer
from memory_operator.kube.secrets import secret_reader
from memory_operator.metrics import Metrics
from memory_operator.processes.api_workers import answer_owner, place_of, run_api_workers
from memory_operator.processes.options import ApiOptions
from memory_operator.processes.runtime import keep_for_good, run_parts
from memory_operator.processes.wiring import Base, open_base

DRAIN_SECONDS = 5.0
"""How long a pod that was told to stop still answers: its Service sends it requests for about so long."""


def make_services(base: Base, catalog: Catalog | None = None, cluster: ClusterView | None = None) -> Services:
    """What the routes call; with another catalog than that of Providers which a file says nothing more about."""
    return Services(
        store=base.store,
        remember=Remember(base.store, base.connector, base.keys),
        recall=Recall(base.store, base.connector, base.keys),
        catalog=catalog or Catalog(base.store),
        consents=Consents(base.store),
        jobs=Jobs(base.store, base.keys),
        accounts=Accounts(base.store),
        projects=Projects(base.store, base.keys),
        doctor=Doctor(base.store, base.connector, base.keys, cluster),
        comparer=Comparer(base.store, base.connector, base.keys),
        rehearsals=Rehearsals(base.store, base.connector, base.keys),
    )


async def run_api_process(options: ApiOptions, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises ConfigurationError."""
    if options.auth_mode == "none":
        no_auth(options.host)  # refuses what is not loopback before anything else is looked at
    place = place_of(options.environment)
    if place is None and options.workers > 1:
        await run_api_workers(options, stop)
        return
    address = (options.host, options.port) if place is None else place.listener
    ready: list[Services] = []
    metrics = Metrics()

    async def not_ready() -> str | None:
        return await ready[0].not_ready() if ready else "memory: waiting for the database"

    async def probes(stop: asyncio.Event) -> None:
        if place is not None:
            await answer_owner(place, not_ready, metrics, stop)
            return
        await serve_probes(options.probe_host, options.probe_port, ready=not_ready, metrics=metrics, stop=stop)

    async def serve(stop: asyncio.Event) -> None:
        async with open_api(options.kubeconfig) as api:
            auth = make_auth(options, api)
            async with open_base(options, "memory-api", secret_reader(api), metrics, stop) as base:
                if base is not None:
                    ready.append(make_services(base, cluster=KubeClusterView(api)))
                    drain = DRAIN_SECONDS if options.engine_settings().in_pod else 0.0
                    await serve_api(ready[0], auth, address, stop, listening=keep_for_good, drain_seconds=drain)

    await run_parts(stop, probes=probes, api=serve)


def make_auth(options: ApiOptions, api: Any) -> Authenticator:
    """Who may call, by auth mode. Raises ConfigurationError."""
    if options.auth_mode == "kubernetes":
        return kubernetes_auth(token_reviewer(api), access_reviewer(api))
    if options.auth_mode == "tokens":
        return token_auth(options.tokens_file)
    return no_auth(options.host)
