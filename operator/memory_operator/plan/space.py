"""What makes a space, and the one place where its key and its identity are formed."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from memory_operator.contract.known_models import reads_context
from memory_operator.contract.rerank import RerankForm
from memory_operator.plan.index import IndexConfig

Mode = Literal["document", "query"]
"""What a text is embedded as: something to be found, or something to find it with."""


class Frozen(BaseModel):
    """A value: compared by content, stored as JSON, never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SecretKeyConfig(Frozen):
    """Where a secret is, never the secret itself. `key` None means the type's default keys, in order."""

    name: str
    key: str | None = None


class CredentialRef(Frozen):
    """The one place that a credential is read from at each use."""

    secret: SecretKeyConfig | None = None
    env_var: str | None = None
    file_path: str | None = None


class PlatformConfig(Frozen):
    """A cloud platform that hosts the model under its own addresses and identities."""

    type: str
    region: str | None = None
    project: str | None = None
    endpoint: str | None = None


class LimitsConfig(Frozen):
    """What the vendor allows this Provider; None means no declared limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


class BudgetConfig(Frozen):
    """What fills may spend before they pause; None means no bound. Money is in US dollars."""

    tokens_per_job: int | None = None
    cost_per_job: Decimal | None = None
    tokens_per_day: int | None = None
    cost_per_day: Decimal | None = None


class CallConfig(Frozen):
    """All that an embedder needs to make a call, but for the secret itself."""

    namespace: str
    """Where the Provider lives; its Secrets are read there."""
    type: str
    base_url: str | None = None
    """Effective base URL without trailing slash; None where the type has none (local, mock)."""
    platform: PlatformConfig | None = None
    auth_type: str | None = None
    """How calls to the platform prove who makes them; None without a platform. No part of a space's identity."""
    model: str = ""
    requested_dimensions: int | None = None
    """`spec.embedding.dimensions`: sent to the API where it takes it."""
    document_prefix: str = ""
    query_prefix: str = ""
    headers: dict[str, str] = Field(default_factory=dict)
    credential: CredentialRef | None = None
    ca_secret: SecretKeyConfig | None = None
    timeout_seconds: float = 60.0
    """Limit of one worker call; queries and adds have shorter ones of their own."""
    batch_size: int | None = None
    limits: LimitsConfig = LimitsConfig()
    budget: BudgetConfig = BudgetConfig()
    input_cost_per_1k: Decimal | None = None
    """Price of 1,000 input tokens in US dollars; None means unknown, not free."""

    @property
    def reads_context(self) -> bool:
        """Whether the model reads words in their context (`contract.known_models`)."""
        return reads_context(self.type, self.model)

    def same_vendor(self, other: CallConfig) -> bool:
        """Whether calls under both go to the same server."""
        return (self.type, self.base_url, self.platform) == (other.type, other.base_url, other.platform)

    def same_endpoint(self, other: CallConfig) -> bool:
        """Whether a credential meant for `other` may be used here: an old vendor never sees a new key."""
        return (self.type, self.base_url, self.platform, self.model) == (
            other.type,
            other.base_url,
            other.platform,
            other.model,
        )


class SpaceConfig(CallConfig):
    """The configuration snapshot that made a space."""

    dimensions: int
    column_type: Literal["vector", "halfvec"] = "vector"
    distance: Literal["cosine", "l2", "dot"] = "cosine"
    preprocessing_version: int
    create_enabled: bool = True
    index: IndexConfig = IndexConfig()
    """No part of what makes a space: another one is built beside."""

    @property
    def snapshot(self) -> dict[str, Any]:
        """As it is stored. Release 0.1 reads only the fields that it knows, so the index is stored apart."""
        return self.model_dump(mode="json", exclude={"index"})

    @property
    def key(self) -> str:
        """`type|base_url|model|dimensions`."""
        return f"{self.type}|{self.base_url or ''}|{self.model}|{self.dimensions}"

    @property
    def identity(self) -> str:
        """Space key plus a digest of all else that makes a space; what concerns queries only is no part of it."""
        document_mode, _ = INPUT_MODES.get(self.type, (None, None))
        return self._identity({"document_mode": document_mode})

    @property
    def identity_of_0_1(self) -> str:
        """The same as release 0.1 formed it, which may still run on the store."""
        return self._identity({"query_prefix": self.query_prefix, "modes": INPUT_MODES.get(self.type)})

    def _identity(self, modes: dict[str, object]) -> str:
        parts = {
            **modes,
            "document_prefix": self.document_prefix,
            "platform": self.platform.model_dump() if self.platform else None,
            "column_type": self.column_type,
            "preprocessing_version": self.preprocessing_version,
        }
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
        return f"{self.key}#{digest}"


class RerankConfig(CallConfig):
    """How a Provider's rerank API is called; kept with the Provider and no part of any space.

    On a server of its own `type` is one of the rerank API, by which a Secret's keys are named.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    """What a later release stored does not keep this one from answering."""

    form: RerankForm
    top: int
    """How many of the first results are sent."""
    always: bool
    """Whether for each query that reads the Provider's space, or for those that ask for it alone."""
    elsewhere: bool
    """Whether its server is not the Provider's own, whose credential is never sent there."""


_CALL_FIELDS = (
    "credential",
    "auth_type",
    "headers",
    "ca_secret",
    "timeout_seconds",
    "limits",
    "budget",
    "batch_size",
    "input_cost_per_1k",
    "create_enabled",
)


def with_call_fields(applied: SpaceConfig, desired: SpaceConfig) -> SpaceConfig:
    """The applied snapshot with what may follow an edit at once; unchanged where the vendor or the model differs."""
    if not applied.same_endpoint(desired):
        return applied
    return applied.model_copy(update={name: getattr(desired, name) for name in _CALL_FIELDS})


INPUT_MODES: dict[str, tuple[str, str]] = {
    "voyageai": ("document", "query"),
    "cohere": ("search_document", "search_query"),
    "gemini": ("RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY"),
}
"""Document and query input mode of the types whose API tells the two apart."""


def input_mode(provider_type: str, mode: Mode) -> str:
    """What a type that is in INPUT_MODES calls `mode`."""
    document, query = INPUT_MODES[provider_type]
    return query if mode == "query" else document
