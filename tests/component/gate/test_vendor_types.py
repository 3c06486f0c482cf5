"""A Provider of each vendor's type, from its manifest to a full space, with its key where its users have it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.engine import World
from memory_operator.store.spaces import spaces as stored
from vendor.stub import StubVendor

KEY = "vendor-key-0123456789"


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64, api_key=KEY) as stub:
        yield stub


def provider(type_: str, vendor: StubVendor) -> dict[str, Any]:
    """The spec of a Provider of the stub vendor that speaks as `type_` does."""
    urls = {"gemini": f"{vendor.root_url}/v1beta", "vllm": vendor.base_url}
    spec: dict[str, Any] = {"type": type_, "model": "model-a", "baseURL": urls.get(type_, vendor.root_url)}
    if type_.startswith("azure"):
        del spec["baseURL"]
        auth = {"type": "workloadIdentity"}
        if type_ == "azure by key":
            auth = {"type": "accessKey", "credentialsSecretRef": {"name": "key"}}
        spec |= {"type": "openai", "platform": {"type": "azure", "endpoint": vendor.root_url}, "auth": auth}
    else:
        spec["credential"] = {"secretRef": {"name": "key"}}
    return spec


@pytest.mark.parametrize(
    ("type_", "key_name", "document", "query"),
    [
        ("voyageai", "VOYAGE_API_KEY", "document", "query"),
        ("cohere", "CO_API_KEY", "search_document", "search_query"),
        ("gemini", "GOOGLE_API_KEY", "RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY"),
        ("vllm", "api-key", None, None),
        ("azure by key", "AZURE_OPENAI_API_KEY", None, None),
        ("azure by identity", None, None, None),
    ],
)
async def test_a_provider_is_filled_and_asked_in_its_vendors_own_form(
    world: World,
    vendor: StubVendor,
    type_: str,
    key_name: str | None,
    document: str | None,
    query: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if key_name is not None:
        world.cluster.secrets[("default", "key")] = {key_name: KEY, "ANOTHER_VENDORS_KEY": "not-this-one"}
    else:
        (tmp_path / "token").write_text("assertion")
        monkeypatch.setenv("AZURE_TENANT_ID", "tenant")
        monkeypatch.setenv("AZURE_CLIENT_ID", "client")
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", vendor.root_url)
        monkeypatch.setenv("MEMORY_AZURE_TOKEN_HOSTS", "127.0.0.1")
    await world.stored(120)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(type_, vendor))
        await world.until_phase(ref, "Ready")
        assert {call.mode for call in vendor.calls} == {document}

        async with world.store.connection() as conn:
            active = await stored.active(conn)
        assert active is not None
        embedder = await world.connector.embedder(active.config)
        await embedder.embed(["what was it?"], mode="query", timeout=5, dimensions=64)
        assert vendor.calls[-1].mode == query
    assert set(vendor.keys) == ({KEY} if key_name else {"azure-token-1"})
