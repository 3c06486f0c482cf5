"""What all bodies and answers have in common."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

_PROVIDER = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _plain(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("control characters are not allowed here")
    return text


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain)]


def _namespaced(text: str) -> str:
    if not _PROVIDER.fullmatch(text):
        raise ValueError("must be namespace/name, in lower case")
    return text


ProviderName = Annotated[
    str,
    Field(max_length=507, json_schema_extra={"pattern": f"^{_PROVIDER.pattern}$"}),
    AfterValidator(_namespaced),
]
Money = Annotated[
    Decimal, PlainSerializer(lambda amount: f"{amount:f}", return_type=str), Field(description="US dollars, exact.")
]


class Body(BaseModel):
    """A JSON object; an unknown field is refused, and an integer is an integer."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class NoBody(Body):
    """Nothing; an empty object does as well."""


class AnswerModel(BaseModel):
    """A JSON object."""

    model_config = ConfigDict(from_attributes=True, frozen=True, serialize_by_alias=True, extra="forbid")


class ProblemAnswer(AnswerModel):
    """RFC 9457; some problems carry further members, such as the figures behind a refusal."""

    model_config = ConfigDict(title="Problem", extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str = Field(min_length=1, description="What to do next.")
    request_id: str
