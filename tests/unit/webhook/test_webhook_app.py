"""The application by itself: what a client over a real connection cannot bring about."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fixtures.waiting import ends
from fixtures.webhook import REVIEW_PATH
from memory_webhook.app import review_app
from memory_webhook.metrics import WebhookMetrics

Message = MutableMapping[str, Any]


async def call(
    metrics: WebhookMetrics, receive: Callable[[], Awaitable[Message]], headers: list[tuple[bytes, bytes]]
) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": REVIEW_PATH, "headers": headers}
    await review_app(metrics)(scope, receive, send)
    return sent


def count(metrics: WebhookMetrics, result: str) -> float | None:
    return metrics.registry.get_sample_value("memory_webhook_reviews_total", {"result": result})


def allowed(sent: list[Message]) -> bool:
    return bool(json.loads(sent[1]["body"])["response"]["allowed"])


async def test_a_failure_of_ours_is_an_allowed_answer_and_a_count() -> None:
    async def broken() -> Message:
        raise RuntimeError("nobody expected this")

    metrics = WebhookMetrics()
    sent = await call(metrics, broken, [])
    assert sent[0]["status"] == 200
    assert allowed(sent)
    assert count(metrics, "failed") == 1


async def test_a_body_that_does_not_come_is_answered_in_time_and_the_connection_ends() -> None:
    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    metrics = WebhookMetrics()
    sent = await ends(call(metrics, never, []), "an answer without the body")
    assert allowed(sent)
    assert (b"connection", b"close") in sent[0]["headers"]
    assert count(metrics, "too_slow") == 1


async def test_a_body_that_grows_above_the_limit_is_answered_before_its_end() -> None:
    async def endless() -> Message:
        return {"type": "http.request", "body": b"x" * 1_000_000, "more_body": True}

    metrics = WebhookMetrics()
    assert allowed(await call(metrics, endless, []))
    assert count(metrics, "too_large") == 1


async def test_a_client_that_hung_up_is_not_answered() -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    metrics = WebhookMetrics()
    assert await call(metrics, gone, []) == []
    assert count(metrics, "ok") == 0
