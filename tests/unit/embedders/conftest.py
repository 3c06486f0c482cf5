"""A stub vendor over real HTTP, and embedders that talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from memory_operator.embedders import Embedder, EmbedderPool
from memory_operator.plan.space import CallConfig
from vendor import StubVendor

DIMENSIONS = 48

Make = Callable[..., Embedder]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=DIMENSIONS) as stub:
        yield stub


@pytest.fixture
async def pool() -> AsyncIterator[EmbedderPool]:
    async with EmbedderPool() as embedders:
        yield embedders


@pytest.fixture
def make(vendor: StubVendor, pool: EmbedderPool) -> Make:
    """An embedder for the stub vendor; keywords are fields of the configuration."""

    def embedder(credential: str | None = None, ca_pem: str | None = None, **fields: object) -> Embedder:
        given = {"namespace": "agents", "type": "openai", "model": "m", "base_url": vendor.base_url, **fields}
        return pool.embedder(CallConfig.model_validate(given), credential, ca_pem)

    return embedder
