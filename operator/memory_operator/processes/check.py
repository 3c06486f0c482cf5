"""`memory-operator check`: compares Providers with what is stored, looks for what is wrong, and ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from memory_operator.dev.config.source import ConfigSource
from memory_operator.dev.manifests.source import FolderSource
from memory_operator.embedders import EmbedderPool
from memory_operator.engine.admin.doctor.examine import Doctor
from memory_operator.engine.admin.doctor.report import CHECKS, Finding, Report, Scope, ordered
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.gate.dry_run import Comparison, compare
from memory_operator.engine.ports.cluster import ClusterView
from memory_operator.engine.ports.sources import ProviderSource, SecretReader
from memory_operator.errors import MemoryOperatorError
from memory_operator.kube.client import open_api, served_namespaces
from memory_operator.kube.cluster_view import KubeClusterView
from memory_operator.kube.secrets import secret_reader
from memory_operator.kube.source import KubeSource
from memory_operator.memory.encryption import MasterKey
from memory_operator.memory.keyfile import read_master_key
from memory_operator.processes.options import CheckOptions
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.migrate import check_schema
from memory_operator.store.db.pool import Store, open_store
from memory_operator.store.memories.tenants import KeyRing

_BY = Actor("memory-operator", "check")


@dataclass(frozen=True, slots=True)
class Checked:
    """What was compared, and with --deep what was found and mended."""

    providers: Sequence[Comparison] = ()
    report: Report = field(default_factory=lambda: Report(()))
    mended: Sequence[Finding] = ()


@dataclass(frozen=True, slots=True)
class _Sources:
    providers: ProviderSource
    read_secret: SecretReader
    cluster: ClusterView | None = None


async def run_check(options: CheckOptions) -> Checked:
    """Compare every Provider, of a folder or of a cluster, with what is stored, and change nothing.

    With --deep all checks of the doctor too; with --fix what is safe and costs nothing is mended.
    """
    async with _sources(options) as sources:
        if not options.deep:
            async with await open_store(options.database, application="memory-check", max_size=2) as store:
                return Checked(await _compare(options, store, sources))
        return await _look_deep(options, sources)


@asynccontextmanager
async def _sources(options: CheckOptions) -> AsyncIterator[_Sources]:
    if options.config is not None:
        config = ConfigSource(options.config.absolute(), environment=options.environment)
        config.check()
        yield _Sources(config, config.read_secret)
        return
    if options.providers is not None:
        folder = FolderSource(options.providers)
        yield _Sources(folder, folder.read_secret)
        return
    async with open_api(options.kubeconfig) as api:
        source = KubeSource(api, served_namespaces(options.namespaces, options.kubeconfig))
        yield _Sources(source, secret_reader(api), KubeClusterView(api))


async def _compare(options: CheckOptions, store: Store, sources: _Sources) -> list[Comparison]:
    async with store.connection() as conn:
        await check_schema(conn)
    async with EmbedderPool() as pool:
        connector = Connector(pool, sources.read_secret, options.credentials(), options.environment)
        return await compare(store, sources.providers, connector)


async def _look_deep(options: CheckOptions, sources: _Sources) -> Checked:
    master = read_master_key(options.master_key_file) if options.master_key_file else None
    try:
        store = await open_store(options.database, application="memory-check", max_size=4)
    except MemoryOperatorError as error:
        fault = Finding("database", "fail", error.message, remedy=error.hint)
        missing = [Finding(check, "skipped", "see database") for check in CHECKS if check != "database"]
        return Checked(report=Report([fault, *missing]))
    async with store:
        try:
            compared = await _compare(options, store, sources)
            uncompared = []
        except MemoryOperatorError as error:
            compared, uncompared = [], [Finding("provider", "fail", error.message, remedy=error.hint)]
        async with EmbedderPool() as pool:
            doctor = _doctor(options, store, pool, sources, master)
            report = await doctor.examine(Scope(calls=options.calls))
            report = ordered([*report.findings, *uncompared])
            return Checked(compared, report, await _mend(doctor, report) if options.fix else ())


def _doctor(
    options: CheckOptions, store: Store, pool: EmbedderPool, sources: _Sources, master: MasterKey | None
) -> Doctor:
    proof = master.credential_proof if master else None
    connector = Connector(pool, sources.read_secret, options.credentials(), options.environment, proof)
    return Doctor(store, connector, KeyRing(master) if master else None, sources.cluster)


async def _mend(doctor: Doctor, report: Report) -> list[Finding]:
    """Mend what costs nothing; the findings that are mended."""
    mended = []
    for finding in report.findings:
        repair = finding.repair
        if repair is not None and repair.kind != "reembed":
            await doctor.repair(repair.kind, repair.subject, _BY)
            mended.append(finding)
    return mended
