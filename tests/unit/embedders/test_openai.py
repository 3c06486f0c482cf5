from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memory_operator.embedders import probe
from memory_operator.embedders.vendors.openai import OPENAI_FORM
from memory_operator.errors import BadReply, RequestRejected
from memory_operator.plan.space import CallConfig
from vendor import Fault, StubVendor

TEXTS = [f"memory {number}" for number in range(7)]


def expected(vendor: StubVendor, texts: list[str], dimensions: int | None = None) -> np.ndarray:
    return np.stack([vendor.vector(text, "m", dimensions) for text in texts])


async def test_vectors_come_back_in_the_order_of_the_texts(make, vendor):
    answer = await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)

    np.testing.assert_array_equal(answer.vectors, expected(vendor, TEXTS))
    assert answer.vectors.dtype == np.float32
    assert answer.vectors.flags.c_contiguous
    assert answer.tokens == sum(len(text) // 4 + 1 for text in TEXTS)
    assert vendor.count == 1
    assert vendor.calls[0].encoding_format == "base64"
    assert vendor.calls[0].dimensions is None


async def test_no_texts_are_no_call(make, vendor):
    answer = await make().embed([], mode="document", timeout=10, dimensions=48)

    assert answer.vectors.shape == (0, 48)
    assert vendor.count == 0


async def test_a_shuffled_reply_is_put_in_order_by_its_index(make, vendor):
    vendor.fault = Fault(shuffle=True)
    answer = await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)
    np.testing.assert_array_equal(answer.vectors, expected(vendor, TEXTS))


async def test_an_index_that_comes_twice_is_a_bad_reply(make, vendor):
    vendor.fault = Fault(same_index=True)
    with pytest.raises(BadReply, match="cannot be matched"):
        await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)


@pytest.mark.parametrize("fault", [Fault(ignore_base64=True), Fault(mixed=True)])
async def test_numbers_are_read_where_base64_was_asked_for(make, vendor, fault):
    vendor.fault = fault
    answer = await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)
    np.testing.assert_allclose(answer.vectors, expected(vendor, TEXTS), rtol=1e-6)


async def test_refused_base64_is_asked_for_once_only(make, vendor):
    vendor.fault = Fault(refuse_base64=True)
    answer = await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)
    await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)

    np.testing.assert_allclose(answer.vectors, expected(vendor, TEXTS), rtol=1e-6)
    assert [call.encoding_format for call in vendor.calls] == ["base64", "float", "float"]


async def test_base64_is_given_up_even_when_the_refusal_does_not_name_it(make, vendor):
    vendor.fault = Fault(refuse_base64=True, vague=True)
    await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)
    assert [call.encoding_format for call in vendor.calls] == ["base64", "float"]


async def test_declared_dimensions_are_sent_and_honoured(make, vendor):
    answer = await make(requested_dimensions=24).embed(TEXTS, mode="document", timeout=10, dimensions=24)

    assert vendor.calls[0].dimensions == 24
    np.testing.assert_array_equal(answer.vectors, expected(vendor, TEXTS, 24))


@pytest.mark.parametrize("type_", ["openai", "openai_compatible"])
async def test_a_refused_dimensions_parameter_is_left_out_from_then_on(make, vendor, type_):
    vendor.fault = Fault(refuse_dimensions=True)
    for _ in range(2):
        await make(type=type_, requested_dimensions=48).embed(TEXTS, mode="document", timeout=10, dimensions=48)

    assert [call.dimensions for call in vendor.calls] == [48, None, None]
    assert {call.encoding_format for call in vendor.calls} == {"base64"}


@pytest.mark.parametrize("vague", [False, True])
async def test_a_server_that_refuses_both_gets_neither(make, vendor, vague):
    vendor.fault = Fault(refuse_dimensions=True, refuse_base64=True, vague=vague)
    for _ in range(2):
        await make(requested_dimensions=48).embed(TEXTS, mode="document", timeout=10, dimensions=48)

    assert (vendor.calls[-1].encoding_format, vendor.calls[-1].dimensions) == ("float", None)
    assert (vendor.calls[-2].encoding_format, vendor.calls[-2].dimensions) == ("float", None)
    assert vendor.count <= 5


async def test_a_refusal_for_one_length_says_nothing_about_another(make, vendor):
    vendor.fault = Fault(refuse_dimensions=True)
    await make(requested_dimensions=48).embed(TEXTS, mode="document", timeout=10, dimensions=48)
    vendor.fault = None
    await make(requested_dimensions=24).embed(TEXTS, mode="document", timeout=10, dimensions=24)
    assert vendor.calls[-1].dimensions == 24


async def test_a_dimension_that_the_model_does_not_return_is_told_with_the_one_it_does(make, vendor):
    vendor.fault = Fault(refuse_dimensions=True)
    with pytest.raises(BadReply, match="48 dimensions where 24 were expected") as refused:
        await make(requested_dimensions=24).embed(TEXTS, mode="document", timeout=10, dimensions=24)
    assert refused.value.actual_dimensions == 48


async def test_what_has_worked_before_is_not_doubted_when_a_text_is_refused(make, vendor):
    embedder = make(requested_dimensions=48)
    await embedder.embed(TEXTS, mode="document", timeout=10, dimensions=48)
    vendor.fault = Fault(status=400, containing="poison")
    with pytest.raises(RequestRejected) as refused:
        await embedder.embed([*TEXTS, "poison"], mode="document", timeout=10, dimensions=48)

    assert refused.value.about_the_texts
    assert vendor.count == 2


async def test_a_refused_first_batch_leaves_nothing_remembered(make, vendor):
    vendor.fault = Fault(status=400, containing="poison")
    with pytest.raises(RequestRejected):
        await make().embed(["poison"], mode="document", timeout=10, dimensions=48)
    await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)

    assert [call.encoding_format for call in vendor.calls] == ["base64", "float", "base64"]


async def test_a_servers_own_batch_limit_is_learned_from_its_refusal(make, vendor):
    vendor.fault = Fault(max_batch=3)
    answer = await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)
    await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)

    np.testing.assert_array_equal(answer.vectors, expected(vendor, TEXTS))
    assert answer.tokens == sum(len(text) // 4 + 1 for text in TEXTS)
    assert [len(call.inputs) for call in vendor.calls] == [7, 3, 3, 1, 3, 3, 1]


async def test_more_texts_than_the_api_takes_go_in_several_requests(make, vendor):
    texts = [f"t{number}" for number in range(2050)]
    answer = await make().embed(texts, mode="document", timeout=30, dimensions=48)
    assert [len(call.inputs) for call in vendor.calls] == [2048, 2]
    np.testing.assert_array_equal(answer.vectors, expected(vendor, texts))


async def test_prefixes_go_before_the_texts_of_their_mode(make, vendor):
    embedder = make(document_prefix="search_document: ", query_prefix="search_query: ")
    await embedder.embed(["a"], mode="document", timeout=10, dimensions=48)
    await embedder.embed(["b"], mode="query", timeout=10, dimensions=48)
    assert vendor.inputs == ["search_document: a", "search_query: b"]


async def test_unknown_usage_is_none_and_never_zero(make, vendor):
    vendor.fault = Fault(no_usage=True)
    answer = await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)
    assert answer.tokens is None


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(vectors=-1), "6 vectors for 7 texts"),
        (Fault(vectors=1), "8 vectors for 7 texts"),
        (Fault(length=1), "49 dimensions where 48"),
        (Fault(uneven=True), "49 dimensions where 48"),
        (Fault(value="nan"), "not a 32-bit number|not JSON"),
        (Fault(value="inf"), "not a 32-bit number|not JSON"),
        (Fault(value="zero"), "a vector of zeros"),
        (Fault(truncate=True), "not JSON"),
        (Fault(huge_mib=16), "more than 4 MiB"),
        (Fault(gzip_mib=64), "more than 4 MiB"),
        (Fault(encoding="gzip, gzip"), "a compressed reply"),
        (Fault(encoding="gzip", truncate=True), "not JSON"),
    ],
)
@pytest.mark.parametrize("as_numbers", [False, True])
async def test_a_reply_that_cannot_be_right_is_refused(make, vendor, fault, says, as_numbers):
    vendor.fault = fault
    if as_numbers:
        vendor.fault = replace(fault, ignore_base64=True)
    with pytest.raises(BadReply, match=says):
        await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)


async def test_a_compressed_reply_is_read_although_it_was_not_asked_for(make, vendor):
    vendor.fault = Fault(encoding="gzip")
    answer = await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)
    np.testing.assert_array_equal(answer.vectors, expected(vendor, TEXTS))
    assert vendor.calls[0].headers["accept-encoding"] == "identity"


async def test_a_probe_takes_whatever_length_comes_back(make, vendor):
    vendor.dimensions = 20
    assert await probe(make(), timeout=10) == 20


async def test_a_probe_refuses_vectors_of_different_lengths(make, vendor):
    vendor.fault = Fault(uneven=True)
    with pytest.raises(BadReply, match="of 48 and of 49 dimensions"):
        await make().embed(TEXTS, mode="document", timeout=10, dimensions=None)


@pytest.mark.parametrize(
    ("base_url", "model", "sent"),
    [
        ("https://api.openai.com/v1", "text-embedding-3-small", True),
        ("https://api.openai.com/v1", "text-embedding-ada-002", False),
        ("https://vllm.models.svc/v1", "bge-m3", True),
    ],
)
async def test_openai_itself_is_asked_for_dimensions_of_its_third_generation_only(base_url, model, sent):
    config = CallConfig(namespace="agents", type="openai", model=model, base_url=base_url, requested_dimensions=512)
    assert OPENAI_FORM.takes_dimensions(config) is sent


async def test_half_a_surrogate_pair_is_refused_as_the_texts_fault(make, vendor):
    with pytest.raises(RequestRejected) as refused:
        await make().embed(["\ud800"], mode="document", timeout=10, dimensions=48)
    assert refused.value.about_the_texts
    assert vendor.count == 0
