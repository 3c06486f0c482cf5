"""How routes are documented, and how their answers become responses."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from memory_operator.http.problems import MEDIA_TYPE
from memory_operator.http.schemas.base import AnswerModel, Body, NoBody, ProblemAnswer
from memory_operator.http.schemas.comparisons import CompareBody, RehearseBody
from memory_operator.http.schemas.consent import ConsentBody
from memory_operator.http.schemas.doctor import DoctorBody, RepairBody
from memory_operator.http.schemas.jobs import ReembedBody, ReindexBody
from memory_operator.http.schemas.memories import ChangesBody, MemoryBody
from memory_operator.http.schemas.projects import LanguageBody
from memory_operator.http.schemas.quarantine import RetryBody
from memory_operator.http.schemas.query import QueryBody
from memory_operator.http.schemas.spaces import ActivateBody, CreateEnabledBody, PruneBody

_DESCRIPTION = "Memories of agents, found by meaning and by words, and the spaces of vectors that they are found in."
_PROBLEM_SCHEMA = {"$ref": "#/components/schemas/Problem"}
_PROBLEMS = {
    400: "The request does not fit",
    401: "No token, or one that is not accepted",
    403: "Not allowed",
    404: "There is no such thing",
    409: "Refused in the present state",
    413: "The body is too large",
    500: "Our fault; the log has the request id",
    503: "Not now; try again after Retry-After seconds",
}
_EVERYWHERE = (400, 401, 403, 413, 500, 503)


_BODIES: tuple[type[Body], ...] = (
    MemoryBody,
    ChangesBody,
    QueryBody,
    ConsentBody,
    ActivateBody,
    CreateEnabledBody,
    NoBody,
    PruneBody,
    ReindexBody,
    ReembedBody,
    RetryBody,
    LanguageBody,
    DoctorBody,
    RepairBody,
    CompareBody,
    RehearseBody,
)


def responses(model: type[AnswerModel] | None, status: int = 200, *problems: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: its answer, the problems that any route can have, and its own."""
    found: dict[int | str, dict[str, Any]] = {}
    if model is not None:
        found[status] = {"model": model, "description": (model.__doc__ or "").strip()}
    for code in sorted({*_EVERYWHERE, *problems}):
        found[code] = {"description": _PROBLEMS[code], "content": {MEDIA_TYPE: {"schema": _PROBLEM_SCHEMA}}}
    return found


def request_body(model: type[Body], *, required: bool = True) -> dict[str, Any]:
    """The OpenAPI part of a route that reads a body of its own."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def reply(content: BaseModel, status: int = 200) -> Response:
    """A JSON response. Decimals are text, so that they stay exact; times are RFC 3339."""
    return Response(content.model_dump_json(), status, media_type="application/json")


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the bodies that our routes read by themselves and without what FastAPI assumes."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes, description=_DESCRIPTION)
    components = document.setdefault("components", {})
    problem = ProblemAnswer.model_json_schema(mode="serialization")
    components["schemas"] = {**components.get("schemas", {}), **_body_schemas(), "Problem": problem}
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    # Auth mode `none` needs no token.
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}, {}]
    return document


def _body_schemas() -> dict[str, Any]:
    """Our routes read their bodies by themselves, so FastAPI does not know them."""
    _, document = models_json_schema(
        [(model, "validation") for model in _BODIES], ref_template="#/components/schemas/{model}"
    )
    found: dict[str, Any] = document["$defs"]
    return found
