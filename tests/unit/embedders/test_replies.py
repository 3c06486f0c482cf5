from __future__ import annotations

import json

import numpy as np
import pytest
from simdjson import Parser

from memory_operator.embedders.http.json import KEPT_PARSER_BYTES, json_object
from memory_operator.embedders.validate import assemble
from memory_operator.embedders.vendors import ollama, openai
from memory_operator.errors import BadReply


def reply(*items: object, **more: object) -> bytes:
    return json.dumps({"data": list(items), **more}).encode()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"data":' + b"[" * 100_000, "not JSON"),
        (b'{"data":[{"index":0,"embedding":[NaN]}]}', "not JSON"),
        (b"{}", "without a list of vectors"),
        (reply("x"), "without a list of vectors"),
        (reply({"embedding": [1.0]}), "by their index"),
        (reply({"index": True, "embedding": [1.0]}), "by their index"),
        (reply({"index": 1, "embedding": [1.0]}), "by their index"),
        (reply({"index": -1, "embedding": [1.0]}), "by their index"),
        (reply({"index": 0}), "neither base64 nor a list"),
        (reply({"index": 0, "embedding": "no base64!"}), "base64 cannot be read"),
        (reply({"index": 0, "embedding": "AAAA"}), "base64 cannot be read"),
        (reply({"index": 0, "embedding": []}), "0 dimensions"),
        (reply({"index": 0, "embedding": ["1"]}), "not a 32-bit number"),
        (reply({"index": 0, "embedding": [None]}), "not a 32-bit number"),
        (reply({"index": 0, "embedding": [[1.0, 2.0]]}), "not a 32-bit number"),
        (reply({"index": 0, "embedding": [1e300]}), "not a 32-bit number"),
        (reply({"index": 0, "embedding": [10**400]}), "not"),
        (reply({"index": 0, "embedding": [0, 0.0]}), "a vector of zeros"),
        (reply(), "0 vectors for 1 texts"),
    ],
)
def test_a_reply_in_no_known_shape_is_refused(body, says):
    with pytest.raises(BadReply, match=says):
        openai.decode(body, 1, None, "stub")


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "total_tokens": 9}, 7),
        ({"total_tokens": 9}, 9),
        ({"prompt_tokens": 0}, None),
        ({"prompt_tokens": True}, None),
        ({"prompt_tokens": "7"}, None),
        (None, None),
        ([], None),
    ],
)
def test_only_a_positive_whole_number_is_a_token_count(usage, tokens):
    body = reply({"index": 0, "embedding": [1.0]}, usage=usage)
    assert openai.decode(body, 1, 1, "stub").tokens == tokens


@pytest.mark.parametrize("body", [b"{}", b'{"embeddings":{}}', b'{"embeddings":["AAAA"]}'])
def test_a_reply_in_no_known_shape_is_refused_from_ollama_too(body):
    with pytest.raises(BadReply, match="without a list of vectors"):
        ollama.decode(body, 1, None, "stub")


def test_one_number_is_not_stretched_over_a_whole_vector():
    with pytest.raises(BadReply) as refused:
        assemble([Parser().parse(b"[0.5]")], count=1, dimensions=8, source="stub")
    assert refused.value.actual_dimensions == 1


def test_whole_numbers_are_numbers():
    np.testing.assert_array_equal(
        assemble([Parser().parse(b"[1, 0, -2]")], count=1, dimensions=3, source="stub"), [[1, 0, -2]]
    )


def test_a_reply_is_read_while_something_of_the_one_before_is_still_held():
    first = json_object(b'{"a":[1,2]}', "stub")
    second = json_object(b'{"a":[3]}', "stub")
    with pytest.raises(BadReply) as refused:
        openai.decode(reply({"index": 0, "embedding": ["1"]}), 1, None, "stub")
    good = openai.decode(reply({"index": 0, "embedding": [1.0]}), 1, None, "stub")
    assert (list(first["a"]), list(second["a"]), good.vectors.tolist()) == ([1, 2], [3], [[1.0]])
    assert refused.value.args


def test_large_replies_are_read_and_small_ones_after_them():
    numbers = [0.5] * 2_000_000
    body = reply({"index": 0, "embedding": numbers})
    assert len(body) > KEPT_PARSER_BYTES
    assert openai.decode(body, 1, None, "stub").vectors.shape == (1, 2_000_000)
    assert openai.decode(reply({"index": 0, "embedding": [1.0]}), 1, None, "stub").vectors.shape == (1, 1)
