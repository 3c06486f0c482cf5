"""One pool of embedders for each event loop. It owns their connections and what was learned about their servers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Self

from memory_operator.embedders.base import Embedder, Reranker
from memory_operator.embedders.capabilities import ServerCapabilities
from memory_operator.embedders.http.transport import Wire
from memory_operator.embedders.parts import Parts
from memory_operator.embedders.registry import embedder_type
from memory_operator.embedders.rerank import VendorReranker
from memory_operator.embedders.vendors.azure_identity import WorkloadIdentity
from memory_operator.errors import ConfigurationError
from memory_operator.plan.space import CallConfig, RerankConfig


class EmbedderPool:
    """Makes embedders that share connections, and what was learned about the servers behind them.

    To be used as an async context manager on the event loop that the embedders are used on.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """`environment` defaults to this process's own; Azure's workload identity is configured there."""
        self._environment = os.environ if environment is None else environment
        self._wire = Wire()
        self._identity = WorkloadIdentity(self._wire, self._environment)
        self._capabilities: dict[tuple[str, str | None, str], ServerCapabilities] = {}
        self._thread: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        # Reading the public CAs takes a tenth of a second, for which no heartbeat waits.
        with suppress(ConfigurationError):  # of a proxy; `embedder` raises it where the network is needed
            await asyncio.to_thread(self._wire.prepare, None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def embedder(self, config: CallConfig, credential: str | None, ca_pem: str | None) -> Embedder:
        """An embedder for `config`: cheap to make, so made anew whenever the secret is read anew.

        Args:
            config: how to call; its base URL is the effective one.
            credential: the key itself; None where the type needs none.
            ca_pem: PEM certificates that alone are trusted for this base URL; None trusts the public ones.

        Raises:
            UnsupportedType: no embedder is built for the type or platform.
            ConfigurationError: base URL, headers, key, CA or model cannot be used.
        """
        build = embedder_type(config).build
        self._wire.prepare(ca_pem)
        capabilities = self._capabilities.setdefault((config.type, config.base_url, config.model), ServerCapabilities())
        parts = Parts(
            config, credential, ca_pem, self._wire, capabilities, self._executor, self._identity, self._environment
        )
        return build(parts)

    def reranker(self, config: RerankConfig, credential: str | None, ca_pem: str | None) -> Reranker:
        """A reranker for `config`, made as `embedder` makes one.

        Raises:
            ConfigurationError: base URL, headers, key or CA cannot be used.
        """
        self._wire.prepare(ca_pem)
        return VendorReranker(config, credential, ca_pem, self._wire)

    async def aclose(self) -> None:
        """Close the connections. Calls still under way end with an error."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None
        await self._wire.aclose()

    def _executor(self) -> Executor:
        if self._thread is None:
            # One thread: a second would only take the core from the event loop.
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-embedder")
        return self._thread
