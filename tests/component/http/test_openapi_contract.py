"""Thousands of requests made from the OpenAPI document, good ones and bad ones: what it promises holds, nothing breaks.

The server runs on an event loop of its own, as in `dev`; an operator and a worker run beside it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import cast

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import BaseSchema, Case, CheckContext, GenerationMode, Response
from schemathesis.specs.openapi import checks

from fixtures.api import HOST, serve
from fixtures.engine import open_world
from fixtures.postgres import Server
from memory_operator.http.app import create_app
from memory_operator.http.auth.none import no_auth
from memory_operator.http.services import Services

EXAMPLES = 60
MEMORIES = 30
START_SECONDS = 60
EVERY_PROBLEM = {"type", "title", "status", "detail", "code", "hint", "request_id"}


@dataclass
class Running:
    """An API with one Provider, whose space is ready, and some memories."""

    url: str
    memories: list[str]


@pytest.fixture(scope="module")
def running(postgres_server: Server, template_database: str) -> Iterator[Running]:
    """The API that is asked."""
    name = postgres_server.create(template_database)
    started: Future[Running] = Future()
    stop: Future[None] = Future()

    async def body() -> None:
        async with (
            open_world(postgres_server.url(name, superuser=False)) as world,
            world.operator(),
            world.worker(),
            serve(world) as api,
        ):
            await world.until_phase(world.cluster.apply("memory", {"type": "mock"}), "Ready")
            added = [await api.post("/memory/add", {"text": f"memory number {number}"}) for number in range(MEMORIES)]
            started.set_result(Running(f"http://{HOST}:{api.port}", [answer.json()["id"] for answer in added]))
            await asyncio.wrap_future(stop)

    thread = threading.Thread(target=lambda: asyncio.run(body()), name="api under test")
    thread.start()
    try:
        yield started.result(START_SECONDS)
    finally:
        stop.set_result(None)
        thread.join(START_SECONDS)
        postgres_server.drop(name)


def document() -> BaseSchema:
    """The document, which is the same with and without a store behind it."""
    app = create_app(cast("Services", None), no_auth(HOST), "0")
    return schemathesis.openapi.from_dict(app.openapi())


def every_error_is_a_problem_with_a_hint(context: CheckContext, response: Response, case: Case) -> None:
    """RFC 9457, whatever was sent."""
    if response.status_code >= 400:
        assert response.headers["content-type"] == ["application/problem+json"], response.headers
        problem = response.json()
        assert set(problem) >= EVERY_PROBLEM, problem
        assert problem["hint"], problem
        assert problem["status"] == response.status_code
        assert [problem["request_id"]] == response.headers["x-request-id"]


@document().parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_what_the_document_promises_holds(case: Case, running: Running) -> None:
    if "memory_id" in case.path_parameters and case.meta and case.meta.generation.mode is GenerationMode.POSITIVE:
        case.path_parameters["memory_id"] = running.memories[0]
        if case.method == "DELETE" and len(running.memories) > 1:
            running.memories.pop(0)
    case.call_and_validate(
        base_url=running.url,
        timeout=30,
        checks=[
            schemathesis.checks.not_a_server_error,
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_schema_conformance,
            checks.negative_data_rejection,
            every_error_is_a_problem_with_a_hint,
        ],
    )
