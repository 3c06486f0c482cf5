"""What every vendor's embedder has to do, over real HTTP, each in its vendor's own form."""

from __future__ import annotations

import asyncio
import logging
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest

from memory_operator.embedders import probe
from memory_operator.errors import (
    BadReply,
    CredentialRefused,
    EmbedderUnreachable,
    MemoryOperatorError,
    RateLimited,
    RequestRejected,
)
from unit.embedders import vendors
from vendor import Fault

TEXTS = [f"memory {number}" for number in range(7)]
TOKENS = sum(len(text) // 4 + 1 for text in TEXTS)
KEY = "vendor-key-0123456789"
WITH_LIMITS = {"openai": 2048, "azure": 2048, "voyageai": 1000, "cohere": 96, "gemini": 100}


@pytest.fixture(params=list(vendors.ALL.values()), ids=list(vendors.ALL))
def form(request):
    return request.param


@pytest.fixture
def vendor_of(form, make, vendor):
    """An embedder for the stub in `form`; keywords are fields of the configuration."""

    def embedder(credential=KEY, **fields):
        return make(credential, **{"type": form.type, "base_url": form.url(vendor), **form.fields, **fields})

    return embedder


async def ask(embedder, texts=TEXTS, *, mode="document", timeout=10.0, dimensions=48):
    return await embedder.embed(texts, mode=mode, timeout=timeout, dimensions=dimensions)


@pytest.mark.parametrize("mode", ["document", "query"])
async def test_a_request_is_as_the_vendor_documents_it(vendor_of, vendor, form, mode):
    await ask(vendor_of(), mode=mode)

    call = vendor.calls[0]
    assert call.target == form.path
    assert call.request == form.body(TEXTS, mode)
    assert call.headers["content-type"] == "application/json"
    name, value = form.key(KEY)
    sent = {name for name in ("authorization", "api-key", "x-goog-api-key") if name in call.headers}
    assert (sent, call.headers[name]) == ({name}, value)


async def test_vectors_come_in_the_order_of_the_texts_with_their_usage(vendor_of, vendor):
    vendor.fault = Fault(shuffle=True)
    answer = await ask(vendor_of())

    expected = np.stack([vendor.vector(text, "m") for text in TEXTS])
    np.testing.assert_allclose(answer.vectors, expected, rtol=1e-6)
    assert (answer.vectors.dtype, answer.vectors.flags.c_contiguous) == (np.float32, True)
    assert answer.tokens == TOKENS


async def test_unknown_usage_is_none(vendor_of, vendor):
    vendor.fault = Fault(no_usage=True)
    assert (await ask(vendor_of())).tokens is None


async def test_prefixes_go_before_the_texts_of_their_mode(vendor_of, vendor):
    embedder = vendor_of(document_prefix="doc: ", query_prefix="query: ")
    await ask(embedder, ["a"])
    await ask(embedder, ["b"], mode="query")
    assert vendor.inputs == ["doc: a", "query: b"]


async def test_a_declared_length_is_asked_for_and_comes_back_with_a_length_of_one(vendor_of, vendor, form):
    answer = await ask(vendor_of(requested_dimensions=24), dimensions=24)

    plain = form.body(TEXTS, "document")
    if form is vendors.GEMINI:
        assert vendor.calls[0].request == {"requests": [{**each, **form.sized(24)} for each in plain["requests"]]}
    else:
        assert vendor.calls[0].request == {**plain, **form.sized(24)}
    expected = np.stack([vendor.vector(text, "m", 24) for text in TEXTS])
    np.testing.assert_allclose(answer.vectors, expected, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(answer.vectors, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("form", [form for form in vendors.ALL.values() if form is not vendors.OLLAMA], indirect=True)
async def test_a_length_that_is_refused_is_left_out_from_then_on(vendor_of, vendor):
    vendor.fault = Fault(refuse_dimensions=True)
    embedder = vendor_of(requested_dimensions=48)
    await ask(embedder)
    await ask(embedder)
    assert [call.dimensions for call in vendor.calls][-2:] == [None, None]
    assert vendor.count == 3


async def test_base64_that_is_refused_is_left_out_from_then_on(vendor_of, vendor, form):
    vendor.fault = Fault(refuse_base64=True)
    embedder = vendor_of()
    first, _ = await ask(embedder), await ask(embedder)
    np.testing.assert_allclose(first.vectors, np.stack([vendor.vector(text, "m") for text in TEXTS]), rtol=1e-6)
    formats = [call.encoding_format for call in vendor.calls]
    if "encoding_format" not in form.body(TEXTS, "document"):
        assert formats == [None, None]
    else:
        assert formats == ["base64", *[None if form is vendors.VOYAGE else "float"] * 2]


@pytest.mark.parametrize("name", list(WITH_LIMITS))
async def test_more_texts_than_the_vendor_takes_go_in_several_requests(make, vendor, name):
    form, limit = vendors.ALL[name], WITH_LIMITS[name]
    texts = [f"t{number}" for number in range(limit + 2)]
    embedder = make(KEY, **{"type": form.type, "base_url": form.url(vendor), **form.fields})
    answer = await ask(embedder, texts, timeout=30)
    assert [len(call.inputs) for call in vendor.calls] == [limit, 2]
    np.testing.assert_allclose(answer.vectors, np.stack([vendor.vector(text, "m") for text in texts]), rtol=1e-6)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RequestRejected),
        (401, CredentialRefused),
        (403, CredentialRefused),
        (404, RequestRejected),
        (422, RequestRejected),
        (429, RateLimited),
        (500, EmbedderUnreachable),
        (503, EmbedderUnreachable),
    ],
)
async def test_a_status_becomes_the_error_that_says_what_to_do(vendor_of, vendor, status, error):
    vendor.fault = Fault(status=status)
    with pytest.raises(MemoryOperatorError) as refused:
        await ask(vendor_of())
    assert type(refused.value) is error
    assert getattr(refused.value, "about_the_texts", None) == {400: True, 422: True, 404: False}.get(status)


async def test_retry_after_is_read_as_seconds_and_as_a_date(vendor_of, vendor):
    vendor.fault = Fault(status=429, retry_after="7")
    with pytest.raises(RateLimited) as refused:
        await ask(vendor_of())
    assert refused.value.retry_after == 7

    later = datetime.now(UTC) + timedelta(seconds=100)
    vendor.fault = Fault(status=429, retry_after=format_datetime(later, usegmt=True))
    with pytest.raises(RateLimited) as refused:
        await ask(vendor_of())
    assert 90 < (refused.value.retry_after or 0) <= 100


async def test_a_key_that_the_vendor_does_not_know_is_refused_at_once(vendor_of, vendor):
    vendor.api_key = "another"
    with pytest.raises(CredentialRefused):
        await ask(vendor_of(requested_dimensions=24), dimensions=24)
    assert vendor.keys == [KEY]


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault(vectors=-1), Fault(vectors=1), Fault(length=1), Fault(length=-48), Fault(uneven=True)),
        *(Fault(value="nan"), Fault(value="inf"), Fault(value="zero"), Fault(truncate=True), Fault(huge_mib=8)),
    ],
)
async def test_a_reply_that_cannot_be_right_is_refused(vendor_of, vendor, fault):
    vendor.fault = fault
    with pytest.raises(BadReply):
        await ask(vendor_of())
    assert vendor.count == 1


@pytest.mark.parametrize("fault", [Fault(reset="before"), Fault(reset="midway"), Fault(hold=True)])
async def test_a_vendor_that_breaks_off_or_hangs_is_unreachable(vendor_of, vendor, fault):
    vendor.fault = fault
    with pytest.raises(EmbedderUnreachable):
        await ask(vendor_of(), timeout=0.5)


async def test_a_wrong_length_is_told_with_the_one_that_came(vendor_of):
    with pytest.raises(BadReply) as refused:
        await ask(vendor_of(), dimensions=24)
    assert refused.value.actual_dimensions == 48


async def test_a_probe_finds_the_length(vendor_of):
    assert await probe(vendor_of(), timeout=10) == 48


async def test_calls_run_side_by_side(vendor_of, vendor):
    vendor.fault = Fault(hold=True)
    embedder = vendor_of()
    calls = [asyncio.create_task(ask(embedder, [f"text {number}"]), name=f"call {number}") for number in range(8)]
    await asyncio.to_thread(vendor.wait_for_calls, 8)
    vendor.fault = None
    answers = await asyncio.gather(*calls)
    for number, answer in enumerate(answers):
        np.testing.assert_allclose(answer.vectors[0], vendor.vector(f"text {number}", "m"), rtol=1e-6)


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault(status=status, body=f'{{"error":"body-secret {KEY}"}}') for status in (302, 400, 401, 404, 429, 500)),
        *(Fault(reset="before"), Fault(truncate=True), Fault(value="nan"), Fault(hold=True)),
    ],
)
async def test_no_error_or_log_line_tells_the_key_or_the_body(vendor_of, vendor, fault, caplog):
    caplog.set_level(logging.DEBUG, logger="memory_operator")
    vendor.fault = fault
    embedder = vendor_of()
    with pytest.raises(MemoryOperatorError) as failed:
        await ask(embedder, timeout=0.5)
    told = "".join(traceback.format_exception(failed.value)) + failed.value.hint + repr(embedder) + caplog.text
    assert KEY not in told
    assert "body-secret" not in told


# What only one of them does.


async def test_a_wrong_key_is_a_400_at_gemini_and_no_fault_of_the_texts(make, vendor):
    vendor.fault = Fault(status=400, body='{"error":{"status":"INVALID_ARGUMENT","message":"API key not valid."}}')
    embedder = make("wrong", type="gemini", base_url=f"{vendor.root_url}/v1beta", requested_dimensions=24)
    with pytest.raises(CredentialRefused):
        await ask(embedder, dimensions=24)
    assert vendor.count == 1


@pytest.mark.parametrize("model", ["gemini-embedding-001", "models/gemini-embedding-001"])
async def test_gemini_models_may_be_written_with_their_folder(make, vendor, model):
    await ask(make(KEY, type="gemini", base_url=f"{vendor.root_url}/v1beta", model=model))
    assert vendor.calls[0].target == "/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert vendor.calls[0].request["requests"][0]["model"] == "models/gemini-embedding-001"


@pytest.mark.parametrize("type_", ["gemini", "openai"])
async def test_a_models_name_cannot_lead_to_another_page(make, vendor, type_):
    fields = vendors.AZURE.fields if type_ == "openai" else {}
    await ask(make(KEY, **{"type": type_, "base_url": vendor.root_url, "model": "../a?b#c/d", **fields}))
    assert "/..%2Fa%3Fb%23c%2Fd" in vendor.calls[0].target


async def test_a_model_that_voyage_does_not_have_is_no_fault_of_the_texts(make, vendor):
    vendor.fault = Fault(status=400, body='{"detail":"Model m is not supported. Supported models are [...]."}')
    with pytest.raises(RequestRejected) as refused:
        await ask(make(KEY, type="voyageai", base_url=vendor.root_url))
    assert (refused.value.about_the_texts, vendor.count) == (False, 1)


async def test_voyages_base_url_may_end_in_its_version(make, vendor):
    await ask(make(KEY, type="voyageai", base_url=vendor.base_url))
    assert vendor.calls[0].target == "/v1/embeddings"


@pytest.mark.parametrize(("model", "sent"), [("embed-v4.0", 24), ("embed-english-v3.0", None)])
async def test_cohere_models_of_one_length_are_not_asked_for_another(make, vendor, model, sent):
    embedder = make(KEY, type="cohere", base_url=vendor.root_url, model=model, requested_dimensions=24)
    await ask(embedder, dimensions=sent or 48)
    assert vendor.calls[0].dimensions == sent


@pytest.mark.parametrize("type_", ["vllm", "huggingface"])
async def test_vllm_and_hugging_face_are_spoken_to_in_the_openai_form_and_need_no_key(make, vendor, type_):
    answer = await ask(make(type=type_, base_url=vendor.base_url))
    assert answer.vectors.shape == (7, 48)
    assert (vendor.calls[0].target, vendor.keys) == ("/v1/embeddings", [None])
