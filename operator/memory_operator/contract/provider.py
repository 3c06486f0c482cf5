"""The spec of a Provider, as pydantic models: the one source of the CRD, of validation and of the docs."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator
from pydantic.alias_generators import to_camel

GROUP = "omnia.altairalabs.ai"
VERSION = "v1alpha1"
KIND = "Provider"
PLURAL = "providers"

ProviderType = Literal[
    "claude",
    "openai",
    "openai_compatible",
    "gemini",
    "ollama",
    "mock",
    "vllm",
    "voyageai",
    "cohere",
    "local",
    "cartesia",
    "elevenlabs",
    "imagen",
    "huggingface",
]
Role = Literal["llm", "embedding", "tts", "stt", "image", "inference"]
Distance = Literal["cosine", "l2", "dot"]
ColumnType = Literal["vector", "halfvec"]
DimensionChange = Literal["InPlace", "Shadow"]
Activation = Literal["Automatic", "Manual"]

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
DURATION_PATTERN = r"^([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?([0-9]+ms)?$"
DECIMAL_PATTERN = r"^[0-9]+(\.[0-9]+)?$"
BASE_URL_PATTERN = r"^[hH][tT][tT][pP][sS]?://(\[[0-9a-fA-F:.]+\]|[^\[\]/?#:@\\\s]+)(:[0-9]{1,5})?(/[^?#\\\s]*)?$"
USERINFO_PATTERN = "^[^/?#]*//[^/?#]*@"
_CEL_VALIDATIONS = "x-kubernetes-validations"


def _rule(rule: str, message: str, **more: str) -> dict[str, JsonValue]:
    """A rule in CEL for the CRD. It stands beside the validator in Python that says the same."""
    return {"rule": rule, "message": message, **more}


def _cel_text(text: str) -> str:
    """A literal of CEL: raw, so that a regular expression reads the same in both languages."""
    return f"r'{text}'"


def duration_seconds(text: str) -> float:
    """Seconds of a duration such as `30s`, `1m30s` or `500ms`. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration such as 30s or 1m30s")
    hours, minutes, seconds, millis = (float(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds + millis / 1000
    if total <= 0:
        raise ValueError("a duration must be longer than nothing")
    return total


def _duration(text: str) -> str:
    duration_seconds(text)
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


def _base_url(text: str) -> str:
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


def _base_url_rules(url: str, unless: str = "", **more: str) -> list[JsonValue]:
    """The checks of a base URL in CEL. `url` is the expression for it, `unless` what excuses it."""
    userinfo, form = (_cel_text(pattern) for pattern in (USERINFO_PATTERN, BASE_URL_PATTERN))
    query = f"{url}.contains('?') || {url}.contains('#')"
    return [
        _rule(f"{unless}!{url}.matches({userinfo})", _BASE_URL_USERINFO, **more),
        _rule(f"{unless}!({query})", _BASE_URL_QUERY, **more),
        # What the two above refuse passes here: one mistake, one message.
        _rule(f"{unless}{url}.matches({userinfo}) || {query} || {url}.matches({form})", _BASE_URL_FORM, **more),
    ]


_DURATION_RULES: list[JsonValue] = [
    _rule("duration(self) > duration('0s')", "a duration must be longer than nothing, such as 30s or 1m30s")
]

Duration = Annotated[
    str,
    Field(pattern=DURATION_PATTERN, min_length=2, max_length=32, json_schema_extra={_CEL_VALIDATIONS: _DURATION_RULES}),
    AfterValidator(_duration),
]
DecimalText = Annotated[str, Field(pattern=DECIMAL_PATTERN, max_length=32), AfterValidator(_decimal)]
BaseUrl = Annotated[
    str,
    Field(max_length=2048, json_schema_extra={_CEL_VALIDATIONS: _base_url_rules("self")}),
    AfterValidator(_base_url),
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


class Credential(SpecModel):
    """Where the credential is; at most one way."""

    model_config = ConfigDict(
        json_schema_extra={
            _CEL_VALIDATIONS: [
                _rule(
                    "[has(self.secretRef), has(self.envVar), has(self.filePath)].filter(given, given).size() <= 1",
                    "at most one of secretRef, envVar and filePath may be given",
                )
            ]
        }
    )

    secret_ref: SecretKeyRef | None = Field(default=None, description="A Secret in the Provider's namespace.")
    env_var: Name | None = Field(default=None, description="An environment variable that the operator allows.")
    file_path: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None, description="A file below the folder that the operator allows."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Credential:
        if sum(way is not None for way in (self.secret_ref, self.env_var, self.file_path)) > 1:
            raise ValueError("at most one of secretRef, envVar and filePath may be given")
        return self


class Limits(SpecModel):
    """What the vendor allows, kept across all workers."""

    requests_per_minute: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Requests a minute.")
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Tokens a minute.")
    concurrency: Annotated[int, Field(ge=1, le=1024)] | None = Field(default=None, description="Calls at a time.")


class Budget(SpecModel):
    """What re-embedding may use before it pauses."""

    tokens_per_job: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Tokens of one job.")
    cost_per_job: DecimalText | None = Field(default=None, description="US dollars of one job.")
    tokens_per_day: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Tokens of one day.")
    cost_per_day: DecimalText | None = Field(default=None, description="US dollars of one day.")


class EmbeddingSpec(SpecModel):
    """How memories are embedded, stored and compared."""

    dimensions: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None, description="Length of the vectors; found out when left out."
    )
    distance: Distance | None = Field(default=None, description="How vectors are compared; cosine when left out.")
    column_type: ColumnType | None = Field(
        default=None, description="vector (up to 2000 dimensions) or halfvec (up to 4000); vector when left out."
    )
    dimension_change: DimensionChange | None = Field(
        default=None,
        description="InPlace discards the old vectors, with consent; Shadow fills another space beside them.",
    )
    activation: Activation | None = Field(
        default=None, description="Whether queries switch by themselves once an edit's space is full."
    )
    create_enabled: bool | None = Field(default=None, description="false stops embedding new memories.")
    batch_size: Annotated[int, Field(ge=1, le=2048)] | None = Field(default=None, description="Texts in one call.")
    limits: Limits | None = Field(default=None, description="What the vendor allows.")
    budget: Budget | None = Field(default=None, description="What re-embedding may use before it pauses.")
    query_prefix: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="Put before every text that is searched with."
    )
    document_prefix: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="Put before every text that is stored."
    )
    ca_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Certificates to trust for the base URL; ca.crt when no key is named."
    )


class Platform(SpecModel):
    """A cloud platform that hosts the model."""

    type: Literal["bedrock", "vertex", "azure"] = Field(description="The platform.")
    region: Name | None = Field(default=None, description="Its region.")
    project: Name | None = Field(default=None, description="Its project.")
    endpoint: BaseUrl | None = Field(default=None, description="Its endpoint.")


class Auth(SpecModel):
    """How to authenticate to a platform."""

    type: Literal["workloadIdentity", "accessKey", "serviceAccount", "servicePrincipal"] = Field(description="The way.")
    role_arn: Annotated[str, Field(max_length=2048)] | None = Field(default=None, description="An AWS role.")
    service_account_email: Annotated[str, Field(max_length=320)] | None = Field(
        default=None, description="A Google service account."
    )
    credentials_secret_ref: SecretKeyRef | None = Field(default=None, description="A Secret with the credentials.")


class Defaults(SpecModel):
    """Defaults of calls."""

    temperature: Text | None = Field(default=None, description="Of language models.")
    top_p: Text | None = Field(default=None, description="Of language models.")
    max_tokens: int | None = Field(default=None, description="Of language models.")
    context_window: int | None = Field(default=None, description="Of language models.")
    truncation_strategy: Text | None = Field(default=None, description="Of language models.")
    request_timeout: Duration | None = Field(default=None, description="Limit of one call, such as 30s.")
    stream_idle_timeout: Text | None = Field(default=None, description="Of language models.")


class Pricing(SpecModel):
    """US dollars for 1,000 tokens, as decimal text."""

    input_cost_per_1_k: DecimalText | None = Field(
        default=None, alias="inputCostPer1K", description="Of tokens that are sent."
    )
    output_cost_per_1_k: DecimalText | None = Field(
        default=None, alias="outputCostPer1K", description="Of tokens that come back."
    )
    cached_cost_per_1_k: DecimalText | None = Field(
        default=None, alias="cachedCostPer1K", description="Of tokens that the vendor has cached."
    )

    @property
    def input_cost_per_1k(self) -> Decimal | None:
        """Exact price of 1,000 input tokens."""
        return None if self.input_cost_per_1_k is None else Decimal(self.input_cost_per_1_k)


class Open(SpecModel):
    """What other controllers look after: kept as it is."""

    model_config = ConfigDict(extra="allow")


_EMBEDS = "has(self.role) && self.role == 'embedding'"
_FITS_TOGETHER: list[JsonValue] = [
    _rule(
        "self.type in ['mock', 'local'] || has(self.model)",
        "model is required unless type is mock or local",
        fieldPath=".model",
        reason="FieldValueRequired",
    ),
    _rule(
        f"!has(self.embedding) || ({_EMBEDS})",
        "embedding may only be given with role embedding",
        fieldPath=".embedding",
        reason="FieldValueForbidden",
    ),
    _rule("has(self.platform) == has(self.auth)", "platform and auth are given together or not at all"),
    _rule(
        "self.type != 'openai_compatible' || has(self.baseURL)",
        "baseURL is required for type openai_compatible",
        fieldPath=".baseURL",
        reason="FieldValueRequired",
    ),
    # A rule of the whole spec, since the base URLs of other roles are not ours to judge.
    *_base_url_rules(
        "self.baseURL", f"!has(self.baseURL) || !({_EMBEDS}) || ", fieldPath=".baseURL", reason="FieldValueInvalid"
    ),
]


class ProviderSpec(SpecModel):
    """What a Provider says."""

    model_config = ConfigDict(json_schema_extra={_CEL_VALIDATIONS: _FITS_TOGETHER})

    type: ProviderType = Field(description="Whose API it is.")
    role: Role = Field(default="llm", description="What it is for; embedding is what memory-operator looks after.")
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="Name of the model at the vendor; wordllama when left out with type local."
    )
    base_url: Annotated[str, Field(max_length=2048), AfterValidator(_base_url)] | None = Field(
        default=None, alias="baseURL", description="Where the API is, without user, password, query and fragment."
    )
    headers: Annotated[dict[str, HeaderValue], Field(max_length=64)] | None = Field(
        default=None, description="Headers sent with every call."
    )
    embedding: EmbeddingSpec | None = Field(default=None, description="How memories are embedded.")
    credential: Credential | None = Field(default=None, description="Where the credential is.")
    platform: Platform | None = Field(default=None, description="A cloud platform that hosts the model.")
    auth: Auth | None = Field(default=None, description="How to authenticate to the platform.")
    defaults: Defaults | None = Field(default=None, description="Defaults of calls.")
    pricing: Pricing | None = Field(default=None, description="What tokens cost.")
    capabilities: Annotated[list[Text], Field(max_length=64)] | None = Field(
        default=None, description="What a language model can do."
    )
    tts: Open | None = Field(default=None, description="Text to speech.")
    stt: Open | None = Field(default=None, description="Speech to text.")
    validate_credentials: bool | None = Field(default=None, description="Whether to try the credential.")

    @model_validator(mode="after")
    def _fits_together(self) -> ProviderSpec:
        if self.model is None and self.type not in ("mock", "local"):
            raise ValueError("model is required unless type is mock or local")
        if self.embedding is not None and self.role != "embedding":
            raise ValueError("embedding may only be given with role embedding")
        if (self.platform is None) != (self.auth is None):
            raise ValueError("platform and auth are given together or not at all")
        if self.type == "openai_compatible" and self.base_url is None:
            raise ValueError("baseURL is required for type openai_compatible")
        return self
