"""The spec of a Provider, as pydantic models: the one source of the CRD, of validation and of the docs."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, model_validator

from memory_operator.contract.fields import (
    CEL_VALIDATIONS,
    BaseUrl,
    DecimalText,
    Duration,
    HeaderValue,
    Name,
    Period,
    SecretKeyRef,
    SpecModel,
    Text,
    base_url_rules,
    checked_base_url,
    rule,
)
from memory_operator.contract.known_models import DEFAULT_EF_CONSTRUCTION, DEFAULT_M
from memory_operator.contract.rerank import FORMS_BY_TYPE, TYPES_WITH_AN_API, RerankSpec

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
IndexKind = Literal["auto", "hnsw", "hnsw-halfvec", "hnsw-binary", "none"]
DimensionChange = Literal["InPlace", "Shadow"]
Activation = Literal["Automatic", "Manual", "Measured"]
DEFAULT_NDCG_LOSS = 0.02
DEFAULT_INDEX_RECALL = 0.95
DEFAULT_GATE_QUESTIONS = 200
DEFAULT_KEEP_SECONDS = 86_400.0


class Credential(SpecModel):
    """Where the credential is; at most one way."""

    model_config = ConfigDict(
        json_schema_extra={
            CEL_VALIDATIONS: [
                rule(
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
    """What re-embedding may use before it pauses; in a day with re-ranking."""

    tokens_per_job: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Tokens of one job.")
    cost_per_job: DecimalText | None = Field(default=None, description="US dollars of one job.")
    tokens_per_day: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Tokens of one day.")
    cost_per_day: DecimalText | None = Field(default=None, description="US dollars of one day.")


_SEARCHES_TOO_LITTLE = f"efConstruction is at least twice m, which is {DEFAULT_M} when left out"


class HnswSpec(SpecModel):
    """How dense the graph of an HNSW index is: more finds more, and takes longer to build."""

    model_config = ConfigDict(
        json_schema_extra={
            CEL_VALIDATIONS: [
                rule(
                    f"!has(self.efConstruction) || self.efConstruction >= 2 * (has(self.m) ? self.m : {DEFAULT_M})",
                    _SEARCHES_TOO_LITTLE,
                )
            ]
        }
    )

    m: Annotated[int, Field(ge=2, le=100)] | None = Field(
        default=None, description=f"Links of a vector in each layer; {DEFAULT_M} when left out."
    )
    ef_construction: Annotated[int, Field(ge=4, le=1000)] | None = Field(
        default=None,
        description=f"Candidates for these links; {DEFAULT_EF_CONSTRUCTION}, or twice m, when left out.",
    )

    @model_validator(mode="after")
    def _searches_enough(self) -> HnswSpec:
        if self.ef_construction is not None and self.ef_construction < 2 * (self.m or DEFAULT_M):
            raise ValueError(_SEARCHES_TOO_LITTLE)
        return self


class GateSpec(SpecModel):
    """How good the answers of an edit's space have to be for queries to switch to it, with activation Measured."""

    max_ndcg_loss: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="How much lower nDCG@10 and MRR may be, where that is more than chance;"
        f" {DEFAULT_NDCG_LOSS} when left out.",
    )
    min_recall: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description=f"Share of the ten nearest that its index has to find; {DEFAULT_INDEX_RECALL} when left out.",
    )
    questions: Annotated[int, Field(ge=20, le=1000)] | None = Field(
        default=None,
        description=f"How many are made of words of stored memories; {DEFAULT_GATE_QUESTIONS} when left out.",
    )


class EmbeddingSpec(SpecModel):
    """How memories are embedded, stored and compared."""

    dimensions: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None, description="Length of the vectors; found out when left out."
    )
    distance: Distance | None = Field(default=None, description="How vectors are compared; cosine when left out.")
    column_type: ColumnType | None = Field(
        default=None, description="vector (up to 2000 dimensions) or halfvec (up to 4000); vector when left out."
    )
    index: IndexKind | None = Field(
        default=None,
        description="hnsw when left out. hnsw-halfvec and hnsw-binary are smaller, auto takes the smallest that finds"
        " enough, none reads all vectors. All but auto and hnsw go to 4000 dimensions on a vector column.",
    )
    hnsw: HnswSpec | None = Field(default=None, description="How dense the graph of the index is.")
    dimension_change: DimensionChange | None = Field(
        default=None,
        description="InPlace discards the old vectors, with consent; Shadow fills another space beside them.",
    )
    activation: Activation | None = Field(
        default=None,
        description="Whether queries switch by themselves once an edit's space is full. Measured: once its answers are"
        " good enough as well.",
    )
    gate: GateSpec | None = Field(default=None, description="What is good enough, with activation Measured.")
    keep_for: Period | None = Field(
        default=None,
        description="How long the space that an edit replaced still gets new memories, so that `activate` leads back at"
        " once and completely; 24h when left out, 0s turns it off.",
    )
    create_enabled: bool | None = Field(default=None, description="false stops embedding new memories.")
    batch_size: Annotated[int, Field(ge=1, le=2048)] | None = Field(default=None, description="Texts in one call.")
    limits: Limits | None = Field(default=None, description="What the vendor allows.")
    budget: Budget | None = Field(
        default=None, description="What re-embedding may use before it pauses; in a day with re-ranking."
    )
    query_prefix: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="Put before every text that is searched with."
    )
    document_prefix: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="Put before every text that is stored."
    )
    ca_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Certificates to trust for the base URL; ca.crt when no key is named."
    )
    rerank: RerankSpec | None = Field(
        default=None, description="Whose API re-ranks the first results of a query; none when left out."
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
_NO_RERANK = "!has(self.embedding) || !has(self.embedding.rerank)"
_RERANK_SERVER = f"embedding.rerank.baseURL is required unless type is {TYPES_WITH_AN_API}, without platform"
_RERANK_MODEL = "embedding.rerank.model is required unless its form is TEI"
_FITS_TOGETHER: list[JsonValue] = [
    rule(
        "self.type in ['mock', 'local'] || has(self.model)",
        "model is required unless type is mock or local",
        fieldPath=".model",
        reason="FieldValueRequired",
    ),
    rule(
        f"!has(self.embedding) || ({_EMBEDS})",
        "embedding may only be given with role embedding",
        fieldPath=".embedding",
        reason="FieldValueForbidden",
    ),
    rule("has(self.platform) == has(self.auth)", "platform and auth are given together or not at all"),
    rule(
        "self.type != 'openai_compatible' || has(self.baseURL)",
        "baseURL is required for type openai_compatible",
        fieldPath=".baseURL",
        reason="FieldValueRequired",
    ),
    rule(
        f"{_NO_RERANK} || has(self.embedding.rerank.baseURL)"
        f" || (self.type in {list(FORMS_BY_TYPE)} && !has(self.platform))",
        _RERANK_SERVER,
        fieldPath=".embedding.rerank.baseURL",
        reason="FieldValueRequired",
    ),
    rule(
        f"{_NO_RERANK} || has(self.embedding.rerank.model) || (has(self.embedding.rerank.form)"
        " ? self.embedding.rerank.form == 'TEI' : self.type == 'huggingface')",
        _RERANK_MODEL,
        fieldPath=".embedding.rerank.model",
        reason="FieldValueRequired",
    ),
    # A rule of the whole spec, since the base URLs of other roles are not ours to judge.
    *base_url_rules(
        "self.baseURL", f"!has(self.baseURL) || !({_EMBEDS}) || ", fieldPath=".baseURL", reason="FieldValueInvalid"
    ),
]


class ProviderSpec(SpecModel):
    """What a Provider says."""

    model_config = ConfigDict(json_schema_extra={CEL_VALIDATIONS: _FITS_TOGETHER})

    type: ProviderType = Field(description="Whose API it is.")
    role: Role = Field(default="llm", description="What it is for; embedding is what memory-operator looks after.")
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="Name of the model at the vendor; wordllama when left out with type local."
    )
    base_url: Annotated[str, Field(max_length=2048), AfterValidator(checked_base_url)] | None = Field(
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

    @model_validator(mode="after")
    def _reranks(self) -> ProviderSpec:
        rerank = self.embedding.rerank if self.embedding else None
        if rerank is not None:
            if rerank.base_url is None and (self.type not in FORMS_BY_TYPE or self.platform is not None):
                raise ValueError(_RERANK_SERVER)
            if rerank.model is None and (rerank.form or FORMS_BY_TYPE.get(self.type)) != "TEI":
                raise ValueError(_RERANK_MODEL)
        return self
