from __future__ import annotations

import numpy as np
import pytest

from memory_operator.embedders import probe
from memory_operator.errors import BadReply, EmbedderUnreachable, RequestRejected
from vendor import Fault

TEXTS = ["one", "two", "three"]


@pytest.fixture
def ollama(make, vendor):
    def embedder(**fields):
        return make(**{"type": "ollama", "base_url": vendor.root_url, **fields})

    return embedder


async def test_ollamas_own_form_is_spoken_without_a_key_and_never_truncates(ollama, vendor):
    answer = await ollama().embed(TEXTS, mode="document", timeout=10, dimensions=48)

    expected = np.stack([vendor.vector(text, "m") for text in TEXTS])
    np.testing.assert_allclose(answer.vectors, expected, rtol=1e-6)
    assert answer.tokens == 4
    call = vendor.calls[0]
    assert (call.target, call.key, call.truncate, call.dimensions) == ("/api/embed", None, False, None)


async def test_a_base_url_that_ends_in_v1_means_the_openai_form(ollama, vendor):
    await ollama(base_url=vendor.base_url).embed(TEXTS, mode="document", timeout=10, dimensions=48)
    assert vendor.calls[0].target == "/v1/embeddings"


async def test_declared_dimensions_are_sent_to_ollama(ollama, vendor):
    await ollama(requested_dimensions=24).embed(TEXTS, mode="document", timeout=10, dimensions=24)
    assert vendor.calls[0].dimensions == 24


async def test_a_dimension_above_ollamas_own_is_found_by_the_check(ollama):
    with pytest.raises(BadReply) as refused:
        await ollama(requested_dimensions=96).embed(TEXTS, mode="document", timeout=10, dimensions=96)
    assert refused.value.actual_dimensions == 48


async def test_prefixes_reach_ollama(ollama, vendor):
    embedder = ollama(document_prefix="search_document: ", query_prefix="search_query: ")
    await embedder.embed(["a"], mode="document", timeout=10, dimensions=48)
    await embedder.embed(["b"], mode="query", timeout=10, dimensions=48)
    assert vendor.inputs == ["search_document: a", "search_query: b"]


async def test_unknown_usage_is_none(ollama, vendor):
    vendor.fault = Fault(no_usage=True)
    answer = await ollama().embed(TEXTS, mode="document", timeout=10, dimensions=48)
    assert answer.tokens is None


async def test_no_texts_are_no_call(ollama, vendor):
    assert (await ollama().embed([], mode="query", timeout=10, dimensions=None)).vectors.shape == (0, 0)
    assert vendor.count == 0


@pytest.mark.parametrize(
    "fault", [Fault(vectors=-1), Fault(uneven=True), Fault(value="nan"), Fault(value="zero"), Fault(truncate=True)]
)
async def test_a_reply_that_cannot_be_right_is_refused(ollama, vendor, fault):
    vendor.fault = fault
    with pytest.raises(BadReply):
        await ollama().embed(TEXTS, mode="document", timeout=10, dimensions=48)


async def test_a_text_that_is_too_long_is_the_texts_fault_even_when_ollama_says_500(ollama, vendor):
    vendor.fault = Fault(status=500, body='{"error":"the input length exceeds the context length"}')
    with pytest.raises(RequestRejected) as refused:
        await ollama().embed(TEXTS, mode="document", timeout=10, dimensions=48)
    assert refused.value.about_the_texts


async def test_any_other_500_of_ollama_may_pass_later(ollama, vendor):
    vendor.fault = Fault(status=500, body='{"error":"model runner has unexpectedly stopped"}')
    with pytest.raises(EmbedderUnreachable):
        await ollama().embed(TEXTS, mode="document", timeout=10, dimensions=48)


async def test_a_probe_of_ollama_finds_the_length(ollama):
    assert await probe(ollama(), timeout=10) == 48
