"""`memory-operator check`: compares Providers with what is stored, and ends."""

from __future__ import annotations

from memory_operator.dev.manifests.source import FolderSource
from memory_operator.embedders import EmbedderPool
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.gate.dry_run import Comparison, compare
from memory_operator.engine.ports.sources import ProviderSource, SecretReader
from memory_operator.kube.client import open_api, served_namespaces
from memory_operator.kube.secrets import secret_reader
from memory_operator.kube.source import KubeSource
from memory_operator.processes.options import CheckOptions
from memory_operator.settings import CredentialAllowList
from memory_operator.store.db.migrate import check_schema
from memory_operator.store.db.pool import open_store


async def run_check(options: CheckOptions) -> list[Comparison]:
    """Compare every Provider, of a folder or of a cluster, with what is stored, and change nothing."""
    if options.providers is not None:
        folder = FolderSource(options.providers)
        return await _compare(options, folder, folder.read_secret)
    async with open_api(options.kubeconfig) as api:
        source = KubeSource(api, served_namespaces(options.namespaces, options.kubeconfig))
        return await _compare(options, source, secret_reader(api))


async def _compare(options: CheckOptions, source: ProviderSource, read_secret: SecretReader) -> list[Comparison]:
    async with await open_store(options.database, application="memory-check", max_size=2) as store:
        async with store.connection() as conn:
            await check_schema(conn)
        async with EmbedderPool() as pool:
            connector = Connector(pool, read_secret, CredentialAllowList(), options.environment)
            return await compare(store, source, connector)
