from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_operator.embedders.http.status_errors import retry_after
from memory_operator.errors import (
    CredentialRefused,
    EmbedderUnreachable,
    MemoryOperatorError,
    ModelGone,
    RateLimited,
    RequestRejected,
)
from vendor import Fault


async def ask(embedder):
    return await embedder.embed(["text"], mode="document", timeout=10, dimensions=48)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RequestRejected),
        (401, CredentialRefused),
        (403, CredentialRefused),
        (404, RequestRejected),
        (408, RateLimited),
        (413, RequestRejected),
        (422, RequestRejected),
        (429, RateLimited),
        (500, EmbedderUnreachable),
        (502, EmbedderUnreachable),
        (503, EmbedderUnreachable),
        (504, EmbedderUnreachable),
    ],
)
async def test_a_status_is_told_as_what_the_caller_can_do(make, vendor, status, error):
    vendor.fault = Fault(status=status)
    with pytest.raises(error, match=f"^127.0.0.1:{vendor.port} answered {status} ") as refused:
        await ask(make())
    assert refused.value.hint


@pytest.mark.parametrize(
    ("status", "about_the_texts"),
    [(400, True), (413, True), (422, True), (402, False), (404, False), (405, False), (302, False)],
)
async def test_a_refusal_says_whether_another_batch_may_pass(make, vendor, status, about_the_texts):
    vendor.fault = Fault(status=status)
    with pytest.raises(RequestRejected) as refused:
        await ask(make())
    assert refused.value.about_the_texts is about_the_texts


async def test_a_model_that_is_not_there_is_named(make, vendor):
    vendor.fault = Fault(status=404)
    with pytest.raises(RequestRejected, match="no model 'bge-m3'"):
        await ask(make(model="bge-m3"))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, '{"error":{"message":"The model `a` does not exist","code":"model_not_found"}}'),
        (
            404,
            '{"error":{"code":"DeploymentNotFound","message":"The API deployment does not exist"}}',
        ),
        (404, '{"error":{"code":404,"message":"models/a is not found for API version v1beta","status":"NOT_FOUND"}}'),
        (404, '{"error":"model \\"a\\" not found, try pulling it first"}'),
        (410, '{"error":{"message":"The embedding models have been retired and are no longer available"}}'),
    ],
)
async def test_a_vendor_that_speaks_of_the_model_says_that_it_is_gone(make, vendor, status, body):
    vendor.fault = Fault(status=status, body=body)
    with pytest.raises(ModelGone, match="no model 'bge-m3'"):
        await ask(make(model="bge-m3"))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, "<html><title>404 page not found</title> this model of a page</html>"),
        (404, '{"detail":"Not Found"}'),
        (404, '{"message":"no Route matched with those values"}'),
        (404, ""),
        (400, '{"error":"the model refuses this text"}'),
        (503, '{"error":"model is loading"}'),
    ],
)
async def test_what_a_proxy_or_a_busy_server_says_is_no_word_about_the_model(make, vendor, status, body):
    vendor.fault = Fault(status=status, body=body)
    with pytest.raises(MemoryOperatorError) as refused:
        await ask(make(model="bge-m3"))
    assert not isinstance(refused.value, ModelGone)


async def test_a_redirect_is_not_followed(make, vendor):
    vendor.fault = Fault(status=307, location="/v1/embeddings", times=1)
    with pytest.raises(RequestRejected, match="a redirect, which is not followed"):
        await ask(make("key"))
    assert vendor.count == 1


@pytest.mark.parametrize(("status", "error"), [(429, RateLimited), (503, EmbedderUnreachable)])
async def test_retry_after_is_handed_on(make, vendor, status, error):
    vendor.fault = Fault(status=status, retry_after="7")
    with pytest.raises(error) as refused:
        await ask(make())
    assert refused.value.retry_after == 7


async def test_a_key_that_the_vendor_does_not_know_is_refused(make, vendor):
    vendor.api_key = "right"
    with pytest.raises(CredentialRefused):
        await ask(make("wrong"))
    assert (await ask(make("right"))).vectors.shape == (1, 48)
    assert vendor.keys == ["wrong", "right"]


def test_retry_after_is_read_in_each_of_its_forms():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    earlier = format_datetime(datetime.now(UTC) - timedelta(seconds=100), usegmt=True)
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after": "0"}) == 0
    assert 95 < (retry_after({"retry-after": later}) or 0) <= 100
    assert retry_after({"retry-after": earlier}) == 0
    assert retry_after({"retry-after-ms": "250", "retry-after": "1"}) == 0.25


@pytest.mark.parametrize("value", ["", "soon", "-1", "nan", "inf", "1e400", "Mon, 99 Foo"])
def test_a_retry_after_that_says_nothing_is_none(value):
    assert retry_after({"retry-after": value}) is None
    assert retry_after({}) is None


ABSURD_DATES = [
    "Mon, 01 Jan 2024 00:00:00 +99999999999",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "Mon, 01 Jan 2024 99:99:99 GMT",
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "Mon, 31 Feb 2024 00:00:00 GMT",
    "9" * 5_000,
    "1 " * 5_000,
]


@pytest.mark.parametrize("value", ABSURD_DATES)
def test_an_absurd_retry_after_is_survived(value):
    found = retry_after({"retry-after": value, "retry-after-ms": value})
    assert found is None or found >= 0


DATES = st.tuples(*[st.integers(-(10**12), 10**12).map(str) | st.sampled_from(["Jan", "GMT", "-2359", ":", ","])] * 6)


@given(st.text() | DATES.map(" ".join) | DATES.map(":".join))
def test_no_retry_after_is_ever_an_error(value):
    found = retry_after({"retry-after": value})
    assert found is None or found >= 0
