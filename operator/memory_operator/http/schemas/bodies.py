"""Request bodies: read strictly whatever the Content-Type says, and documented in OpenAPI from the same models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic.json_schema import models_json_schema

from memory_operator.http.problems import Problem, from_validation

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_TEXT = 1 << 20


def _plain(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("control characters are not allowed here")
    return text


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain)]
Slug = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain)]
Share = Annotated[float, Field(ge=0, le=1)]
ProviderName = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=507)
]


class Body(BaseModel):
    """A JSON object; an unknown field is refused, and an integer is an integer."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class MemoryBody(Body):
    """A memory to store."""

    text: str = Field(min_length=1, max_length=_MAX_TEXT, description="What is to be remembered.")
    project: Slug = Field(default="default", description="Namespace of memories inside the tenant.")
    summary: str | None = Field(default=None, max_length=20_000, description="A short form of the text.")
    type: Name | None = Field(default=None, description="A kind of memory, such as decision.")
    tags: list[Name] = Field(default_factory=list, max_length=64, description="Labels to filter by.")
    source: Name | None = Field(default=None, description="Where it comes from.")
    importance: Share | None = Field(default=None, description="0 to 1.")
    confidence: Share | None = Field(default=None, description="0 to 1.")
    metadata: dict[str, JsonValue] | None = Field(default=None, description="Anything else; stored encrypted.")


class ChangesBody(Body):
    """Fields of a memory to change; those left out stay. A new version is stored."""

    text: str | None = Field(default=None, min_length=1, max_length=_MAX_TEXT, description="The new text.")
    summary: str | None = Field(default=None, max_length=20_000, description="A short form of the text.")
    type: Name | None = Field(default=None, description="A kind of memory.")
    tags: list[Name] | None = Field(default=None, max_length=64, description="Labels to filter by.")
    source: Name | None = Field(default=None, description="Where it comes from.")
    importance: Share | None = Field(default=None, description="0 to 1.")
    confidence: Share | None = Field(default=None, description="0 to 1.")
    metadata: dict[str, JsonValue] | None = Field(default=None, description="Anything else; stored encrypted.")

    @model_validator(mode="after")
    def _says_something(self) -> ChangesBody:
        if not self.model_fields_set:
            raise ValueError("name at least one field to change")
        for name in ("text", "tags"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self


class FiltersBody(Body):
    """What a memory must be to be found."""

    type: Name | None = Field(default=None, description="Its type.")
    tags: list[Name] = Field(default_factory=list, max_length=64, description="Tags that it has, all of them.")
    source: Name | None = Field(default=None, description="Its source.")
    created_after: datetime | None = Field(default=None, description="Stored after this moment.")
    created_before: datetime | None = Field(default=None, description="Stored before this moment.")

    @model_validator(mode="after")
    def _with_zones(self) -> FiltersBody:
        for name in ("created_after", "created_before"):
            moment = getattr(self, name)
            if moment is not None:
                _check_moment(name, moment)
        return self


def _check_moment(name: str, moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ValueError(f"{name} needs a time zone, as in 2026-01-31T12:00:00Z")
    try:
        moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{name} is out of the range of times") from error


class QueryBody(Body):
    """What to look for."""

    query: str = Field(min_length=1, max_length=100_000, description="A question, or words.")
    project: Slug = Field(default="default", description="Where to look.")
    k: int = Field(default=10, ge=1, le=200, description="How many results at most.")
    filters: FiltersBody | None = Field(default=None, description="What a memory must be to be found.")


class ConsentBody(Body):
    """One-shot consent to a change of dimension."""

    target_dim: int = Field(description="The exact dimension that the held Provider asks for.")
    provider: ProviderName | None = Field(default=None, description="namespace/name; needed where several are held.")
    ttl_seconds: int = Field(default=86_400, ge=60, le=2_592_000, description="How long the consent is valid.")


class ActivateBody(Body):
    """The space that queries are to read; named by its version or by its Provider."""

    embedding_version: Name | None = Field(default=None, description="Name of a space.")
    provider: ProviderName | None = Field(default=None, description="namespace/name of a Provider.")
    force: bool = Field(default=False, description="Activate although the coverage is below 0.99.")

    @model_validator(mode="after")
    def _one(self) -> ActivateBody:
        if (self.embedding_version is None) == (self.provider is None):
            raise ValueError("give embedding_version or provider")
        return self


class CreateEnabledBody(Body):
    """Whether new memories are embedded for a space."""

    embedding_version: Name = Field(description="Name of the space.")
    enabled: bool = Field(description="false stops embedding new memories for it.")


class NoBody(Body):
    """Nothing; an empty object does as well."""


class PruneBody(Body):
    """Which spaces to remove: those that no Provider asks for."""

    dry_run: bool = Field(default=False, description="Say what would be removed, and remove nothing.")


class ReindexBody(Body):
    """Which memories to cut anew, or which space to fill."""

    project: Slug | None = Field(default=None, description="Only this project of the tenant; all of them if left out.")
    embedding_version: Name | None = Field(
        default=None, description="A space: no memory is cut anew, and what is missing there is filled."
    )
    provider: ProviderName | None = Field(default=None, description="namespace/name of a Provider: the same.")
    dry_run: bool = Field(default=False, description="Say what it would take; nothing is begun or written.")

    @model_validator(mode="after")
    def _at_most_one(self) -> ReindexBody:
        if self.embedding_version is not None and self.provider is not None:
            raise ValueError("give embedding_version or provider, or neither")
        return self


class ReembedBody(ReindexBody):
    """Which spaces to fill: those of a Provider, one by its name, or all that the caller may fill."""

    embedding_version: Name | None = Field(default=None, description="Only this space.")
    provider: ProviderName | None = Field(default=None, description="namespace/name; only this Provider's spaces.")
    replace: bool = Field(
        default=False, description="Also chunks that have a vector; each is there until the new one is."
    )


BODIES: tuple[type[Body], ...] = (
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
)

B = TypeVar("B", bound=Body)


def read(model: type[B], *, may_be_empty: bool = False) -> Callable[[Request], Coroutine[Any, Any, B]]:
    """A dependency that reads a body, whatever its Content-Type. Raises a 400 problem that names the field.

    curl sends JSON as a form unless told otherwise, and nobody should have to tell it.
    """

    async def body(request: Request) -> B:
        raw = await request.body()
        if not raw.strip():
            if not may_be_empty:
                raise Problem(400, "invalid_request", "the body is empty; a JSON object is expected")
            raw = b"{}"
        try:
            found = model.model_validate_json(raw)
        except ValidationError as error:
            raise from_validation(error) from None
        _refuse_repeated(raw)
        return found

    return body


def _refuse_repeated(raw: bytes) -> None:
    """A field given twice says two things. Raises a 400 problem."""

    def once(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Problem(400, "invalid_request", f"{name[:100]}: given twice")
            seen.add(name)

    json.loads(raw, object_pairs_hook=once, parse_int=_skip, parse_float=_skip)


def _skip(_: str) -> None:
    """The value of a number does not matter here, and a long one takes long."""


def schemas() -> dict[str, Any]:
    """The schemas of all bodies, for the OpenAPI document."""
    _, document = models_json_schema(
        [(model, "validation") for model in BODIES], ref_template="#/components/schemas/{model}"
    )
    found: dict[str, Any] = document["$defs"]
    return found
