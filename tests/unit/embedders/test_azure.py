"""Models on Azure: the key's own header, and tokens from the workload identity of this process."""

from __future__ import annotations

import asyncio
import logging
import traceback

import pytest

from fixtures.waiting import until
from memory_operator.embedders import EmbedderPool
from memory_operator.embedders.vendors.azure import TOKEN_HOSTS, token_scope
from memory_operator.errors import (
    BadReply,
    ConfigurationError,
    CredentialRefused,
    EmbedderUnreachable,
    MemoryOperatorError,
    RateLimited,
    UnsupportedType,
)
from memory_operator.plan.space import CallConfig
from vendor import Fault

ASSERTION = "federated-token-of-the-cluster"
TOKEN_PATH = "/oauth2/v2.0/token"


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "azure-identity-token"
    file.write_text(f"{ASSERTION}\n")
    return file


@pytest.fixture
def environment(vendor, token_file):
    return {
        "AZURE_TENANT_ID": "tenant-1",
        "AZURE_CLIENT_ID": "client-1",
        "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
        "AZURE_AUTHORITY_HOST": f"{vendor.root_url}/",
        TOKEN_HOSTS: "127.0.0.1",
    }


@pytest.fixture
async def identified(vendor, environment):
    """Makes embedders with a workload identity; keywords are fields of the configuration."""
    async with EmbedderPool(environment) as pool:
        yield lambda **fields: pool.embedder(config(**{"base_url": vendor.root_url, **fields}), None, None)


def config(**fields):
    given = {"namespace": "agents", "type": "openai", "model": "small", "platform": {"type": "azure"}}
    return CallConfig.model_validate({**given, "auth_type": "workloadIdentity", **fields})


async def ask(embedder, timeout=10.0):
    return await embedder.embed(["text"], mode="document", timeout=timeout, dimensions=48)


async def until_exchanged_twice(embedder, vendor):
    async def exchanged() -> bool:
        await ask(embedder)
        return len(vendor.authority.exchanges) >= 2

    await until(exchanged, "a second exchange")


async def test_a_token_is_exchanged_once_and_sent_with_each_call(identified, vendor):
    vendor.authority.assertion = ASSERTION
    first, second = identified(), identified()
    assert (await ask(first)).vectors.shape == (1, 48)
    await ask(second)

    assert vendor.authority.exchanges == [
        {
            "path": "/tenant-1/oauth2/v2.0/token",
            "grant_type": "client_credentials",
            "client_id": "client-1",
            "scope": "https://cognitiveservices.azure.com/.default",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": ASSERTION,
        }
    ]
    assert vendor.keys == ["azure-token-1", "azure-token-1"]
    assert vendor.calls[0].target == "/openai/deployments/small/embeddings?api-version=2024-10-21"
    assert "api-key" not in vendor.calls[0].headers


async def test_calls_at_once_share_one_exchange(identified, vendor):
    embedder = identified()
    await asyncio.gather(*[ask(embedder) for _ in range(10)])
    assert len(vendor.authority.exchanges) == 1


async def test_a_token_is_replaced_before_it_expires(identified, vendor, token_file):
    vendor.authority.seconds = 1
    embedder = identified()
    await ask(embedder)
    token_file.write_text("rotated")
    await until_exchanged_twice(embedder, vendor)
    assert [exchange["client_assertion"] for exchange in vendor.authority.exchanges] == [ASSERTION, "rotated"]
    assert vendor.keys[-1] == "azure-token-2"


async def test_a_token_that_is_still_valid_serves_while_the_authority_is_down(identified, vendor):
    vendor.authority.seconds = 2  # renewed after one
    embedder = identified()
    await ask(embedder)
    vendor.fault = Fault(path=TOKEN_PATH, status=503)
    await until_exchanged_twice(embedder, vendor)
    assert set(vendor.keys) == {"azure-token-1"}


async def test_a_revoked_token_is_refused_once_and_then_replaced(identified, vendor):
    embedder = identified()
    await ask(embedder)
    vendor.authority.tokens.clear()
    with pytest.raises(CredentialRefused) as refused:
        await ask(embedder)
    assert "Cognitive Services OpenAI User" in refused.value.hint
    await ask(embedder)
    assert vendor.keys == ["azure-token-1", "azure-token-1", "azure-token-2"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(path=TOKEN_PATH, status=400), CredentialRefused),
        (Fault(path=TOKEN_PATH, status=401), CredentialRefused),
        (Fault(path=TOKEN_PATH, status=404), CredentialRefused),
        (Fault(path=TOKEN_PATH, status=429, retry_after="3"), RateLimited),
        (Fault(path=TOKEN_PATH, status=503), EmbedderUnreachable),
        (Fault(path=TOKEN_PATH, hold=True), EmbedderUnreachable),
        (Fault(path=TOKEN_PATH, truncate=True), BadReply),
    ],
)
async def test_an_exchange_that_fails_says_why_and_tells_nothing_secret(identified, vendor, fault, error, caplog):
    caplog.set_level(logging.DEBUG, logger="memory_operator")
    vendor.fault = fault
    embedder = identified()
    with pytest.raises(MemoryOperatorError) as failed:
        await ask(embedder, timeout=0.5)
    assert type(failed.value) is error
    assert getattr(failed.value, "retry_after", None) == (3 if error is RateLimited else None)
    assert vendor.count == 0
    told = "".join(traceback.format_exception(failed.value)) + failed.value.hint + repr(embedder) + caplog.text
    assert not [secret for secret in (ASSERTION, "azure-token", "client-1") if secret in told]


async def test_a_token_is_never_in_a_log_or_an_error(identified, vendor, caplog):
    caplog.set_level(logging.DEBUG)
    vendor.fault = Fault(status=500, path="/embeddings")
    embedder = identified()
    with pytest.raises(EmbedderUnreachable) as failed:
        await ask(embedder)
    assert vendor.keys == ["azure-token-1"]
    told = "".join(traceback.format_exception(failed.value)) + failed.value.hint + repr(embedder) + caplog.text
    assert not [secret for secret in (ASSERTION, "azure-token") if secret in told]


@pytest.mark.parametrize("seconds", [None, 0, "soon", True])
async def test_a_token_without_an_end_is_not_used(identified, vendor, seconds):
    vendor.authority.seconds = seconds
    with pytest.raises(BadReply, match="without a token"):
        await ask(identified())


async def test_an_assertion_that_the_authority_does_not_know_is_refused(identified, vendor):
    vendor.authority.assertion = "another"
    with pytest.raises(CredentialRefused, match="no token for the workload identity"):
        await ask(identified())


@pytest.mark.parametrize("name", ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"])
async def test_a_process_without_a_workload_identity_says_what_it_lacks(vendor, environment, name):
    del environment[name]
    async with EmbedderPool(environment) as pool:
        embedder = pool.embedder(config(base_url=vendor.root_url), None, None)
        with pytest.raises(ConfigurationError, match=name) as refused:
            await ask(embedder)
    assert "azure.workload.identity/use" in refused.value.hint


async def test_a_token_file_that_cannot_be_read_is_told(identified, token_file):
    token_file.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        await ask(identified())


async def test_an_authority_that_is_no_url_is_told(vendor, environment):
    environment["AZURE_AUTHORITY_HOST"] = "login.example"
    async with EmbedderPool(environment) as pool:
        with pytest.raises(ConfigurationError, match="AZURE_AUTHORITY_HOST"):
            await ask(pool.embedder(config(base_url=vendor.root_url), None, None))


@pytest.mark.parametrize(
    "base_url",
    [
        "https://evil.example",
        "https://openai.azure.com.evil.example",
        "https://notopenai.azure.com.example",
        "http://mine.openai.azure.com",
        "http://127.0.0.1:9",
    ],
)
async def test_a_token_is_never_sent_to_an_endpoint_that_is_not_azures(environment, base_url):
    environment[TOKEN_HOSTS] = ""
    async with EmbedderPool(environment) as pool:
        with pytest.raises(ConfigurationError, match="not Azure's"):
            pool.embedder(config(base_url=base_url), None, None)


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("mine.openai.azure.com", "https://cognitiveservices.azure.com/.default"),
        ("mine.openai.azure.us", "https://cognitiveservices.azure.us/.default"),
        ("mine.openai.azure.cn", "https://cognitiveservices.azure.cn/.default"),
        ("gateway.corp.example", "https://cognitiveservices.azure.com/.default"),
    ],
)
def test_a_token_is_for_the_cloud_of_the_endpoint(host, scope):
    assert token_scope(host) == scope


async def test_an_endpoint_is_required(pool):
    with pytest.raises(ConfigurationError, match="Platform azure needs an endpoint"):
        pool.embedder(config(base_url=None), None, None)


@pytest.mark.parametrize("auth_type", ["servicePrincipal", "serviceAccount"])
async def test_other_ways_to_prove_oneself_are_not_supported(pool, auth_type):
    with pytest.raises(UnsupportedType, match=auth_type) as refused:
        pool.embedder(config(auth_type=auth_type, base_url="https://mine.openai.azure.com"), None, None)
    assert refused.value.hint == "use workloadIdentity or accessKey"


async def test_a_deployment_is_asked_for_a_length_until_it_refuses(make, vendor):
    vendor.fault = Fault(refuse_dimensions=True)
    fields = {"platform": {"type": "azure"}, "auth_type": "accessKey", "requested_dimensions": 48}
    embedder = make("key", base_url=vendor.root_url, **fields)
    await ask(embedder)
    await ask(embedder)
    assert [call.dimensions for call in vendor.calls] == [48, None, None]
