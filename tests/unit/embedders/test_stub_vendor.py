"""The stub itself, where a test or a bench would be wrong if it were."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from memory_operator.errors import BadReply, EmbedderUnreachable, RateLimited, RequestRejected
from memory_operator.plan.space import CallConfig
from vendor import Fault, StubVendor, VendorProcess
from vendor.vectors import Codebook

TEXTS = ["one", "two", "three"]


@pytest.mark.parametrize("dimensions", [1, 5, 64, 256, 768, 1536])
def test_each_way_to_write_a_vector_gives_the_same_vector(dimensions):
    codebook = Codebook("m", dimensions)
    vector = codebook.vector("a text")
    assert vector.shape == (dimensions,)
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(codebook.base64("a text")), "<f4"), vector)
    np.testing.assert_array_equal(np.array(json.loads(codebook.numbers("a text")), np.float32), vector)


async def test_a_vendor_in_a_process_of_its_own_gives_the_same_vectors_and_takes_orders(make):
    with VendorProcess(dimensions=48) as process:
        embedder = make("key", base_url=process.base_url)
        answer = await embedder.embed(TEXTS, mode="document", timeout=10, dimensions=48)
        expected = [StubVendor(48).vector(text, "m") for text in TEXTS]
        np.testing.assert_array_equal(answer.vectors, expected)
        assert (process.seen()["count"], process.seen()["texts"]) == (1, 3)

        process.set(fault=Fault(status=429, times=1))
        with pytest.raises(RateLimited):
            await embedder.embed(TEXTS, mode="document", timeout=10, dimensions=48)
        await embedder.embed(TEXTS, mode="document", timeout=10, dimensions=48)
        process.forget()
        assert process.seen()["count"] == 0


async def test_of_several_faults_the_first_that_applies_is_taken(make, vendor):
    vendor.fault = [Fault(status=429, containing="one", times=1), Fault(no_usage=True)]
    with pytest.raises(RateLimited):
        await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)
    assert (await make().embed(TEXTS, mode="document", timeout=10, dimensions=48)).tokens is None


async def test_a_vendor_with_models_of_its_own_knows_no_others(pool):
    with StubVendor(models={"small": 24, "large": 96}) as vendor:
        config = CallConfig(namespace="a", type="openai", model="large", base_url=vendor.base_url)
        answer = await pool.embedder(config, None, None).embed(TEXTS, mode="query", timeout=10, dimensions=96)
        assert answer.vectors.shape == (3, 96)
        unknown = config.model_copy(update={"model": "medium"})
        with pytest.raises(RequestRejected, match="no model 'medium'"):
            await pool.embedder(unknown, None, None).embed(TEXTS, mode="query", timeout=10, dimensions=None)


@pytest.mark.parametrize("refuse_base64", [False, True])
async def test_a_fast_vendor_gives_the_same_vectors_and_says_what_it_has_seen(make, refuse_base64):
    with VendorProcess(dimensions=48, fast=True, refuse_base64=refuse_base64) as process:
        answer = await make("key", base_url=process.base_url).embed(TEXTS, mode="document", timeout=10, dimensions=48)
        expected = [StubVendor(48).vector(text, "m") for text in TEXTS]
        np.testing.assert_array_equal(answer.vectors, expected)
        seen = process.seen()
        assert (seen["count"], seen["refused"]) == ((2, 1) if refuse_base64 else (1, 0))
        assert (seen["answered_texts"], seen["distinct"], seen["tokens"]) == (3, 3, answer.tokens)
        assert (seen["in_flight"], seen["peak_in_flight"], seen["unanswered"]) == (0, 1, 0)


async def test_a_fast_vendor_refuses_and_fails_by_its_habits(make):
    with VendorProcess(dimensions=48, fast=True, poison="two") as process:
        embedder = make("key", base_url=process.base_url)
        with pytest.raises(RequestRejected):
            await embedder.embed(TEXTS, mode="document", timeout=10, dimensions=48)
        process.set(rate_429=1)
        with pytest.raises(RateLimited) as limited:
            await _three_times(embedder)
        assert 0 < limited.value.retry_after <= 1
        process.set(poison=None, rate_429=0, wrong_length_every=1)
        with pytest.raises(BadReply):
            await embedder.embed(TEXTS, mode="document", timeout=10, dimensions=48)
        process.set(wrong_length_every=0, hang_every=1)
        with pytest.raises(EmbedderUnreachable):
            await embedder.embed(TEXTS, mode="document", timeout=0.3, dimensions=48)
        assert process.seen()["unanswered"] == 1


async def _three_times(embedder):
    for _ in range(3):
        await embedder.embed(["one"], mode="document", timeout=10, dimensions=48)
