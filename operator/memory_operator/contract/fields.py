"""What the fields of a spec are made of: their forms, and the rules in CEL beside the validators that say the same."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
DURATION_PATTERN = r"^([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?([0-9]+ms)?$"
DECIMAL_PATTERN = r"^[0-9]+(\.[0-9]+)?$"
BASE_URL_PATTERN = r"^[hH][tT][tT][pP][sS]?://(\[[0-9a-fA-F:.]+\]|[^\[\]/?#:@\\\s]+)(:[0-9]{1,5})?(/[^?#\\\s]*)?$"
USERINFO_PATTERN = "^[^/?#]*//[^/?#]*@"
CEL_VALIDATIONS = "x-kubernetes-validations"


def rule(expression: str, message: str, **more: str) -> dict[str, JsonValue]:
    """A rule in CEL for the CRD. It stands beside the validator in Python that says the same."""
    return {"rule": expression, "message": message, **more}


def _cel_text(text: str) -> str:
    """A literal of CEL: raw, so that a regular expression reads the same in both languages."""
    return f"r'{text}'"


def duration_seconds(text: str, *, least: float = 0.001) -> float:
    """Seconds of a duration such as `30s`, `1m30s` or `500ms`, of at least `least`. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration such as 30s or 1m30s")
    hours, minutes, seconds, millis = (float(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds + millis / 1000
    if total < least:
        raise ValueError("a duration must be longer than nothing")
    return total


def _duration(text: str) -> str:
    duration_seconds(text)
    return text


MOST_KEPT_SECONDS = 8760 * 3600.0
_KEPT_TOO_LONG = "at most 8760h, a year"


def _period(text: str) -> str:
    if duration_seconds(text, least=0) > MOST_KEPT_SECONDS:
        raise ValueError(_KEPT_TOO_LONG)
    return text


def _decimal(text: str) -> str:
    try:
        Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not a decimal number") from error
    return text


_BASE_URL_FORM = "a base URL starts with http:// or https:// and names a host"
_BASE_URL_USERINFO = "a base URL holds no user or password; use spec.credential"
_BASE_URL_QUERY = "a base URL has no query and no fragment"


def checked_base_url(text: str) -> str:
    """A base URL, as it is. Raises ValueError where it is none."""
    if re.search(USERINFO_PATTERN, text):
        raise ValueError(_BASE_URL_USERINFO)
    if "?" in text or "#" in text:
        raise ValueError(_BASE_URL_QUERY)
    if not re.fullmatch(BASE_URL_PATTERN, text, re.ASCII) or not _port_is_one(text):
        raise ValueError(_BASE_URL_FORM)
    return text


def _port_is_one(text: str) -> bool:
    try:
        return urlsplit(text).port != 0
    except ValueError:
        return False


def base_url_rules(url: str, unless: str = "", **more: str) -> list[JsonValue]:
    """The checks of a base URL in CEL. `url` is the expression for it, `unless` what excuses it."""
    userinfo, form = (_cel_text(pattern) for pattern in (USERINFO_PATTERN, BASE_URL_PATTERN))
    query = f"{url}.contains('?') || {url}.contains('#')"
    return [
        rule(f"{unless}!{url}.matches({userinfo})", _BASE_URL_USERINFO, **more),
        rule(f"{unless}!({query})", _BASE_URL_QUERY, **more),
        # What the two above refuse passes here: one mistake, one message.
        rule(f"{unless}{url}.matches({userinfo}) || {query} || {url}.matches({form})", _BASE_URL_FORM, **more),
    ]


_DURATION_RULES: list[JsonValue] = [
    rule("duration(self) > duration('0s')", "a duration must be longer than nothing, such as 30s or 1m30s")
]

Duration = Annotated[
    str,
    Field(pattern=DURATION_PATTERN, min_length=2, max_length=32, json_schema_extra={CEL_VALIDATIONS: _DURATION_RULES}),
    AfterValidator(_duration),
]
Period = Annotated[
    str,
    Field(
        pattern=DURATION_PATTERN,
        min_length=2,
        max_length=16,
        json_schema_extra={CEL_VALIDATIONS: [rule("duration(self) <= duration('8760h')", _KEPT_TOO_LONG)]},
    ),
    AfterValidator(_period),
]
"""A duration that may be 0s."""
DecimalText = Annotated[str, Field(pattern=DECIMAL_PATTERN, max_length=32), AfterValidator(_decimal)]
BaseUrl = Annotated[
    str,
    Field(max_length=2048, json_schema_extra={CEL_VALIDATIONS: base_url_rules("self")}),
    AfterValidator(checked_base_url),
]
Name = Annotated[str, Field(min_length=1, max_length=253)]
Text = Annotated[str, Field(max_length=64)]
"""Text that other controllers make something of: kept as it is."""
HeaderValue = Annotated[str, Field(max_length=4096)]


class SpecModel(BaseModel):
    """A part of the spec: camelCase in manifests, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid", strict=True)


class SecretKeyRef(SpecModel):
    """A key of a Secret in the Provider's namespace."""

    name: Name = Field(description="Name of the Secret.")
    key: Name | None = Field(default=None, description="Key in it; the type's usual names are tried when left out.")
