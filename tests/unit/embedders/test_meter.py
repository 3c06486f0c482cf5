"""Each request that leaves is told to the meter before it does, and what became of it afterwards."""

from __future__ import annotations

import asyncio

import pytest

from memory_operator.embedders import EmbedderPool, calls_a_vendor
from memory_operator.errors import BadReply, EmbedderUnreachable, MemoryOperatorError, RequestRejected
from memory_operator.plan.space import CallConfig
from unit.embedders import vendors
from vendor import Fault

TEXTS = [f"memory {number}" for number in range(7)]
TOKENS = sum(len(text) // 4 + 1 for text in TEXTS)


class Told:
    """A meter that keeps what it is told, and how many requests the vendor had got by then."""

    def __init__(self, vendor) -> None:
        self.events: list[object] = []
        self.arrived: list[int] = []
        self._vendor = vendor

    async def sending(self, inputs: int) -> None:
        await asyncio.sleep(0)
        self.arrived.append(self._vendor.count)
        self.events.append(inputs)

    def answered(self, tokens: int | None) -> None:
        self.events.append(("answered", tokens))

    def refused(self) -> None:
        self.events.append("refused")

    def unusable(self) -> None:
        self.events.append("unusable")


@pytest.fixture
def told(vendor):
    return Told(vendor)


async def ask(embedder, told, texts=TEXTS, timeout=10.0):
    return await embedder.embed(texts, mode="document", timeout=timeout, dimensions=48, meter=told)


@pytest.fixture(params=list(vendors.ALL.values()), ids=list(vendors.ALL))
def embedder(request, make, vendor):
    return make("key", **{"type": request.param.type, "base_url": request.param.url(vendor), **request.param.fields})


async def test_a_call_is_announced_before_it_arrives_and_answered_with_its_tokens(embedder, told):
    await ask(embedder, told)
    assert told.events == [7, ("answered", TOKENS)]
    assert told.arrived == [0]


async def test_unknown_usage_is_told_as_none(embedder, told, vendor):
    vendor.fault = Fault(no_usage=True)
    await ask(embedder, told)
    assert told.events == [7, ("answered", None)]


async def test_no_texts_tell_nothing(embedder, told):
    await ask(embedder, told, texts=[])
    assert told.events == []


@pytest.mark.parametrize("status", [302, 401, 404, 429, 500, 503])
async def test_a_refusal_is_told(embedder, told, vendor, status):
    vendor.fault = Fault(status=status)
    with pytest.raises(MemoryOperatorError):
        await ask(embedder, told)
    assert told.events == [7, "refused"]


@pytest.mark.parametrize(
    "fault", [Fault(value="nan"), Fault(truncate=True), Fault(vectors=-1), Fault(huge_mib=8), Fault(encoding="br")]
)
async def test_a_reply_that_cannot_be_used_is_told(embedder, told, vendor, fault):
    vendor.fault = fault
    with pytest.raises(BadReply):
        await ask(embedder, told)
    assert told.events == [7, "unusable"]


@pytest.mark.parametrize("fault", [Fault(hold=True), Fault(reset="before"), Fault(reset="midway")])
async def test_where_no_whole_reply_came_nothing_is_said(embedder, told, vendor, fault):
    vendor.fault = fault
    with pytest.raises(EmbedderUnreachable):
        await ask(embedder, told, timeout=0.5)
    assert told.events == [7]


async def test_a_request_repeated_on_a_new_connection_is_announced_again(embedder, told, vendor):
    vendor.fault = Fault(reset="quietly", times=1)
    await ask(embedder, told)
    assert told.events == [7, 7, ("answered", TOKENS)]
    assert told.arrived == [0, 1]


async def test_a_fallback_is_a_request_of_its_own(make, told, vendor):
    vendor.fault = Fault(refuse_dimensions=True, refuse_base64=True, vague=True)
    await ask(make(requested_dimensions=48), told)
    assert told.events == [*([7, "refused"] * (vendor.count - 1)), 7, ("answered", TOKENS)]


async def test_each_slice_is_a_request_of_its_own(make, told, vendor):
    vendor.fault = Fault(max_batch=3)
    await ask(make(), told)
    sizes = [event for event in told.events if isinstance(event, int)]
    assert sizes == [7, 3, 3, 1]
    assert sum(event[1] for event in told.events if isinstance(event, tuple)) == TOKENS


async def test_a_text_that_cannot_be_sent_is_not_announced(embedder, told):
    with pytest.raises(RequestRejected):
        await ask(embedder, told, texts=["\ud800"])
    assert told.events == []


async def test_a_meter_that_fails_keeps_the_request_from_leaving(make, vendor):
    class Failing(Told):
        async def sending(self, inputs: int) -> None:
            raise ConnectionError("the database is gone")

    with pytest.raises(ConnectionError):
        await ask(make(), Failing(vendor))
    assert vendor.count == 0


@pytest.mark.parametrize("type_", ["mock", "local"])
async def test_types_that_call_nobody_tell_nothing(make, told, type_):
    model = "wordllama" if type_ == "local" else "m"
    embedder = make(type=type_, base_url=None, model=model)
    await embedder.embed(TEXTS, mode="document", timeout=30, dimensions=None, meter=told)
    assert told.events == []
    assert not calls_a_vendor(CallConfig(namespace="a", type=type_, model=model))


def test_the_other_types_call_a_vendor():
    for type_ in ("openai", "openai_compatible", "ollama", "voyageai", "cohere", "gemini", "vllm", "huggingface"):
        assert calls_a_vendor(CallConfig(namespace="a", type=type_, model="m"))


async def test_an_exchange_of_tokens_is_no_call_to_be_paid(vendor, told, tmp_path):
    (tmp_path / "token").write_text("assertion")
    environment = {
        "AZURE_TENANT_ID": "t",
        "AZURE_CLIENT_ID": "c",
        "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token"),
        "AZURE_AUTHORITY_HOST": vendor.root_url,
        "MEMORY_AZURE_TOKEN_HOSTS": "127.0.0.1",
    }
    given = {"namespace": "a", "type": "openai", "model": "m", "base_url": vendor.root_url}
    config = CallConfig.model_validate({**given, **vendors.AZURE.fields, "auth_type": "workloadIdentity"})
    async with EmbedderPool(environment) as pool:
        await ask(pool.embedder(config, None, None), told)
    assert told.events == [7, ("answered", TOKENS)]
