"""The spec of a Provider, as pydantic models: the one source of the CRD, of validation and of the docs."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
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


def _base_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a base URL starts with http:// or https:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a base URL holds no user or password; use spec.credential")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError("a base URL has no query and no fragment")
    return text


Duration = Annotated[str, Field(pattern=DURATION_PATTERN, max_length=32), AfterValidator(_duration)]
DecimalText = Annotated[str, Field(pattern=DECIMAL_PATTERN, max_length=32), AfterValidator(_decimal)]
BaseUrl = Annotated[str, Field(max_length=2048), AfterValidator(_base_url)]
Name = Annotated[str, Field(min_length=1, max_length=253)]


class SpecModel(BaseModel):
    """A part of the spec: camelCase in manifests, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid", strict=True)


class SecretKeyRef(SpecModel):
    """A key of a Secret in the Provider's namespace."""

    name: Name = Field(description="Name of the Secret.")
    key: Name | None = Field(default=None, description="Key in it; the type's usual names are tried when left out.")


class Credential(SpecModel):
    """Where the credential is; at most one way."""

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

    temperature: DecimalText | None = Field(default=None, description="Of language models.")
    top_p: DecimalText | None = Field(default=None, description="Of language models.")
    max_tokens: int | None = Field(default=None, description="Of language models.")
    context_window: int | None = Field(default=None, description="Of language models.")
    truncation_strategy: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="Of language models."
    )
    request_timeout: Duration | None = Field(default=None, description="Limit of one call, such as 30s.")
    stream_idle_timeout: Duration | None = Field(default=None, description="Of language models.")


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


class Tts(SpecModel):
    """Speech, which other controllers look after."""

    model_config = ConfigDict(extra="allow")


class ProviderSpec(SpecModel):
    """What a Provider says."""

    type: ProviderType = Field(description="Whose API it is.")
    role: Role = Field(default="llm", description="What it is for; embedding is what memory-operator looks after.")
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="Name of the model at the vendor."
    )
    base_url: BaseUrl | None = Field(default=None, alias="baseURL", description="Where the API is.")
    headers: dict[str, str] | None = Field(default=None, description="Headers sent with every call.")
    embedding: EmbeddingSpec | None = Field(default=None, description="How memories are embedded.")
    credential: Credential | None = Field(default=None, description="Where the credential is.")
    platform: Platform | None = Field(default=None, description="A cloud platform that hosts the model.")
    auth: Auth | None = Field(default=None, description="How to authenticate to the platform.")
    defaults: Defaults | None = Field(default=None, description="Defaults of calls.")
    pricing: Pricing | None = Field(default=None, description="What tokens cost.")
    capabilities: list[Annotated[str, Field(max_length=64)]] | None = Field(
        default=None, description="What a language model can do."
    )
    tts: Tts | None = Field(default=None, description="Speech.")
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
