"""Rerank APIs: what is sent in each form, what is read from the replies, and what of them is not believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from memory_operator.embedders import EmbedderPool, Reranker
from memory_operator.embedders.rerank import VendorReranker
from memory_operator.errors import (
    BadReply,
    ConfigurationError,
    CredentialRefused,
    EmbedderUnreachable,
    RateLimited,
    RequestRejected,
)
from memory_operator.plan.space import RerankConfig
from vendor import StubVendor
from vendor.script import Fault

QUESTION = "when do backups run"
TEXTS = ["Deploys go out at noon.", "Backups run at two.", "Nobody works on Sundays."]
FORMS = ("Cohere", "Voyage", "Jina", "TEI")

Make = Callable[..., Reranker]


@pytest.fixture
def make(vendor: StubVendor, pool: EmbedderPool) -> Make:
    """A reranker for the stub vendor; keywords are fields of the configuration."""

    def reranker(
        form: str = "Jina", credential: str | None = None, ca_pem: str | None = None, **fields: Any
    ) -> Reranker:
        given = {"namespace": "agents", "type": form.lower(), "model": "m", "base_url": vendor.root_url, "form": form}
        more = {"top": 30, "always": True, "elsewhere": True}
        return pool.reranker(RerankConfig.model_validate({**given, **more, **fields}), credential, ca_pem)

    return reranker


SENT: dict[str, tuple[str, dict[str, Any]]] = {
    "Cohere": ("/v2/rerank", {"model": "m", "query": QUESTION, "documents": TEXTS, "top_n": 3}),
    "Voyage": (
        "/v1/rerank",
        {
            "model": "m",
            "query": QUESTION,
            "documents": TEXTS,
            "top_k": 3,
            "return_documents": False,
            "truncation": True,
        },
    ),
    "Jina": (
        "/v1/rerank",
        {"model": "m", "query": QUESTION, "documents": TEXTS, "top_n": 3, "return_documents": False},
    ),
    "TEI": (
        "/rerank",
        {"query": QUESTION, "texts": TEXTS, "raw_scores": False, "return_text": False, "truncate": True},
    ),
}


@pytest.mark.parametrize("form", FORMS)
async def test_each_form_is_sent_to_its_page_with_the_key_and_its_scores_stand_in_the_order_of_the_texts(
    form: str, make: Make, vendor: StubVendor
) -> None:
    vendor.relevant = {"Backups": 0.9, "Deploys": 0.2}
    answer = await make(form, "secret").rerank(QUESTION, TEXTS, timeout=30)
    assert answer.scores == (0.2, 0.9, 0.01)
    [call] = vendor.calls
    assert (call.target, call.request) == SENT[form]
    assert call.key == "secret"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("version", ["", "/", "/v1", "/v2", "/v1/"])
async def test_a_base_url_may_end_in_a_version(form: str, version: str, make: Make, vendor: StubVendor) -> None:
    await make(form, base_url=vendor.root_url + version).rerank(QUESTION, TEXTS, timeout=30)
    assert vendor.calls[0].target == SENT[form][0]


@pytest.mark.parametrize(("form", "counted"), [("Cohere", True), ("Voyage", True), ("Jina", True), ("TEI", False)])
async def test_tokens_are_what_the_vendor_counted_and_unknown_where_it_did_not(
    form: str, counted: bool, make: Make, vendor: StubVendor
) -> None:
    answer = await make(form).rerank(QUESTION, TEXTS, timeout=30)
    assert answer.tokens == (sum(len(text) // 4 + 1 for text in TEXTS) if counted else None)
    for silent in (Fault(no_usage=True), Fault(count="0"), Fault(count="1e2"), Fault(count="-5")):
        vendor.fault = silent
        assert (await make(form).rerank(QUESTION, TEXTS, timeout=30)).tokens is None


async def test_tei_gets_32_texts_at_a_time_and_the_scores_are_put_together(make: Make, vendor: StubVendor) -> None:
    texts = [f"text {number}" for number in range(70)]
    vendor.relevant = {"text 69": 0.9, "text 0": 0.8}
    answer = await make("TEI").rerank(QUESTION, texts, timeout=30)
    assert [len(call.inputs) for call in vendor.calls] == [32, 32, 6]
    assert (answer.scores[0], answer.scores[69], len(answer.scores)) == (0.8, 0.9, 70)


def listed(form: str, entries: Any) -> str:
    """A reply of a form with these entries."""
    name = {"Voyage": "data"}.get(form, "results")
    return json.dumps(entries if form == "TEI" else {name: entries})


def scored(form: str, *pairs: tuple[Any, Any]) -> list[dict[str, Any]]:
    name = "score" if form == "TEI" else "relevance_score"
    return [{"index": index, name: score} for index, score in pairs]


HOSTILE: dict[str, tuple[tuple[Any, Any], ...]] = {
    "missing entry": ((0, 0.1), (1, 0.2)),
    "one too many": ((0, 0.1), (1, 0.2), (2, 0.3), (2, 0.4)),
    "doubled index": ((0, 0.1), (1, 0.2), (1, 0.3)),
    "index beyond the end": ((0, 0.1), (1, 0.2), (3, 0.3)),
    "index below 0": ((0, 0.1), (1, 0.2), (-1, 0.3)),
    "index is text": ((0, 0.1), (1, 0.2), ("2", 0.3)),
    "index is true": ((0, 0.1), (True, 0.2), (2, 0.3)),
    "index is a fraction": ((0, 0.1), (1, 0.2), (2.0, 0.3)),
    "no index": ((0, 0.1), (1, 0.2), (None, 0.3)),
    "score is text": ((0, 0.1), (1, 0.2), (2, "0.3")),
    "score is true": ((0, 0.1), (1, 0.2), (2, True)),
    "score is null": ((0, 0.1), (1, 0.2), (2, None)),
    "score is a list": ((0, 0.1), (1, 0.2), (2, [0.3])),
    "score is no number": ((0, 0.1), (1, 0.2), (2, float("nan"))),
    "score is infinite": ((0, 0.1), (1, 0.2), (2, float("inf"))),
    "nothing": (),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pairs", HOSTILE.values(), ids=HOSTILE)
async def test_a_reply_without_exactly_one_number_for_each_text_is_not_used(
    form: str, pairs: tuple[tuple[Any, Any], ...], make: Make, vendor: StubVendor
) -> None:
    vendor.fault = Fault(reply=listed(form, scored(form, *pairs)))
    with pytest.raises(BadReply):
        await make(form).rerank(QUESTION, TEXTS, timeout=30)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("entries", [None, {}, "x", 7, ["x", "y", "z"], [[], [], []], [None, None, None]])
async def test_a_reply_without_a_list_of_scores_is_not_used(
    form: str, entries: Any, make: Make, vendor: StubVendor
) -> None:
    vendor.fault = Fault(reply=listed(form, entries))
    with pytest.raises(BadReply):
        await make(form).rerank(QUESTION, TEXTS, timeout=30)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "body", ["", "null", "<html>", "[" * 5000, '{"results":' * 2000, "1e999", '"x"', '[{"index":0,"score":1e999}]']
)
async def test_a_reply_that_is_something_else_is_not_used(form: str, body: str, make: Make, vendor: StubVendor) -> None:
    vendor.fault = Fault(reply=body)
    with pytest.raises(BadReply):
        await make(form).rerank(QUESTION, TEXTS[:1], timeout=30)


@pytest.mark.parametrize("form", FORMS)
async def test_any_finite_numbers_are_scores(form: str, make: Make, vendor: StubVendor) -> None:
    vendor.fault = Fault(reply=listed(form, scored(form, (2, -11.5), (0, 7), (1, 1e300))))
    assert (await make(form).rerank(QUESTION, TEXTS, timeout=30)).scores == (7.0, 1e300, -11.5)


@pytest.mark.parametrize("fault", [Fault(huge_mib=8), Fault(gzip_mib=64), Fault(truncate=True)])
async def test_a_giant_or_cut_body_is_given_up(fault: Fault, make: Make, vendor: StubVendor) -> None:
    vendor.fault = fault
    with pytest.raises(BadReply):
        await make().rerank(QUESTION, TEXTS, timeout=60)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=401), CredentialRefused),
        (Fault(status=404), RequestRejected),
        (Fault(status=422), RequestRejected),
        (Fault(status=302, location="http://elsewhere.example"), RequestRejected),
        (Fault(status=429, retry_after="7"), RateLimited),
        (Fault(status=500), EmbedderUnreachable),
        (Fault(reset="before"), EmbedderUnreachable),
        (Fault(reset="midway"), EmbedderUnreachable),
    ],
)
async def test_a_refusal_is_the_error_that_it_is_for_an_embedder(
    fault: Fault, error: type[Exception], make: Make, vendor: StubVendor
) -> None:
    vendor.fault = fault
    with pytest.raises(error) as raised:
        await make(credential="secret").rerank(QUESTION, TEXTS, timeout=30)
    assert "secret" not in str(raised.value)


async def test_a_server_that_does_not_answer_is_given_up_in_time(make: Make, vendor: StubVendor) -> None:
    vendor.fault = Fault(hold=True)
    with pytest.raises(EmbedderUnreachable):
        await make().rerank(QUESTION, TEXTS, timeout=0.2)


@pytest.mark.parametrize("url", [None, "", "ftp://host", "http://user:secret@host"])
def test_a_base_url_that_cannot_be_used_is_a_fault_of_the_configuration(url: str | None, make: Make) -> None:
    with pytest.raises(ConfigurationError):
        make(base_url=url)


def test_no_key_is_shown(make: Make, vendor: StubVendor) -> None:
    reranker = make(credential="secret")
    assert isinstance(reranker, VendorReranker)
    assert repr(reranker) == f"<reranker 'm' at 127.0.0.1:{vendor.port}>"
