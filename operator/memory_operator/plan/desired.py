"""From a Provider's spec to the configuration it asks for."""

from __future__ import annotations

from decimal import Decimal

from memory_operator.contract.fields import SecretKeyRef, duration_seconds
from memory_operator.contract.known_models import (
    AZURE,
    WORKLOAD_IDENTITY,
    can_make,
    column_limit,
    default_base_url,
    default_model,
    known_dimension,
)
from memory_operator.contract.provider import Budget as BudgetSpec
from memory_operator.contract.provider import EmbeddingSpec, ProviderSpec
from memory_operator.contract.rerank import DEFAULT_SECONDS, DEFAULT_TEXTS, FORMS_BY_TYPE, RerankForm
from memory_operator.errors import InvalidInput
from memory_operator.plan.index import index_config
from memory_operator.plan.space import (
    BudgetConfig,
    CallConfig,
    CredentialRef,
    LimitsConfig,
    PlatformConfig,
    RerankConfig,
    SecretKeyConfig,
    SpaceConfig,
)

DEFAULT_TIMEOUT_SECONDS = 60.0


def call_config(namespace: str, spec: ProviderSpec) -> CallConfig:
    """What an embedder of this Provider needs to make calls; the default base URL belongs to the type."""
    embedding = spec.embedding or EmbeddingSpec()
    base_url = _base_url(spec)
    timeout = spec.defaults.request_timeout if spec.defaults else None
    limits = embedding.limits
    return CallConfig(
        namespace=namespace,
        type=str(spec.type),
        base_url=base_url.rstrip("/") if base_url else None,
        platform=_platform(spec),
        auth_type=str(spec.auth.type) if spec.auth else None,
        model=spec.model or default_model(spec.type),
        requested_dimensions=embedding.dimensions,
        document_prefix=embedding.document_prefix or "",
        query_prefix=embedding.query_prefix or "",
        headers=dict(spec.headers or {}),
        credential=_credential(spec),
        ca_secret=_secret(embedding.ca_secret_ref),
        timeout_seconds=duration_seconds(timeout) if timeout else DEFAULT_TIMEOUT_SECONDS,
        batch_size=embedding.batch_size,
        limits=LimitsConfig(
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            concurrency=limits.concurrency,
        )
        if limits
        else LimitsConfig(),
        budget=_budget(embedding.budget),
        input_cost_per_1k=spec.pricing.input_cost_per_1k if spec.pricing else None,
    )


_RERANK_TYPES: dict[RerankForm, str] = {"Cohere": "cohere", "Voyage": "voyageai", "Jina": "jina", "TEI": "tei"}


def rerank_config(namespace: str, spec: ProviderSpec) -> RerankConfig | None:
    """How this Provider's rerank API is called; None where it names none."""
    rerank = spec.embedding.rerank if spec.embedding else None
    if rerank is None:
        return None
    form = rerank.form or FORMS_BY_TYPE[str(spec.type)]
    own = call_config(namespace, spec)
    server = {
        "type": own.type,
        "base_url": own.base_url,
        "headers": own.headers,
        "credential": own.credential,
        "ca_secret": own.ca_secret,
    }
    if rerank.base_url is not None:
        server = {
            "type": _RERANK_TYPES[form],
            "base_url": rerank.base_url.rstrip("/"),
            "credential": CredentialRef(secret=_secret(rerank.secret_ref)) if rerank.secret_ref else None,
            "ca_secret": _secret(rerank.ca_secret_ref),
        }
    price = rerank.input_cost_per_1_k
    return RerankConfig.model_validate(
        {
            **server,
            "namespace": namespace,
            "model": rerank.model or "",
            "timeout_seconds": duration_seconds(rerank.timeout) if rerank.timeout else DEFAULT_SECONDS,
            "input_cost_per_1k": None if price is None else Decimal(price),
            **({} if rerank.base_url else {"limits": _without_concurrency(own), "budget": _of_day(own)}),
            "form": form,
            "top": rerank.top or DEFAULT_TEXTS,
            "always": rerank.when != "OnRequest",
            "elsewhere": rerank.base_url is not None,
        }
    )


def _without_concurrency(own: CallConfig) -> LimitsConfig:
    """The vendor's limits as they are for its rerank API: a query does not wait for the calls of fills to end."""
    return own.limits.model_copy(update={"concurrency": None})


def _of_day(own: CallConfig) -> BudgetConfig:
    """What the Provider's budget says of a day, which calls to its rerank API are part of."""
    return own.budget.model_copy(update={"tokens_per_job": None, "cost_per_job": None})


def _secret(ref: SecretKeyRef | None) -> SecretKeyConfig | None:
    return SecretKeyConfig(name=ref.name, key=ref.key) if ref else None


def declared_dimension(spec: ProviderSpec) -> int | None:
    """The dimension that the spec declares, or that is known of its model; None where only a call can tell."""
    if spec.embedding and spec.embedding.dimensions:
        return spec.embedding.dimensions
    return known_dimension(str(spec.type), spec.model or "")


def space_config(call: CallConfig, spec: ProviderSpec, dimensions: int, preprocessing_version: int) -> SpaceConfig:
    """The snapshot of a space of this Provider. Raises InvalidInput where no index could serve it."""
    embedding = spec.embedding or EmbeddingSpec()
    column_type = str(embedding.column_type or "vector")
    limit = column_limit(column_type, embedding.index or "hnsw")
    if dimensions > limit:
        widest = column_limit("halfvec")
        wider = f", or spec.embedding.index: hnsw-halfvec (or columnType: halfvec), which goes to {widest}"
        raise InvalidInput(
            f"dimension {dimensions} is above {limit}, the most that an index on {column_type} can have",
            hint=f"choose a model of at most {limit} dimensions{wider if limit < dimensions <= widest else ''}",
        )
    return SpaceConfig(
        **call.model_dump(),
        dimensions=dimensions,
        column_type="halfvec" if column_type == "halfvec" else "vector",
        distance=embedding.distance or "cosine",
        preprocessing_version=preprocessing_version,
        create_enabled=embedding.create_enabled is not False,
        index=index_config(embedding),
    )


def contradiction(config: SpaceConfig) -> str | None:
    """Why an embedder cannot make vectors of the dimension asked of it, where that is known before a call."""
    if can_make(config.type, config.model, config.dimensions) is not False:
        return None
    return (
        f"the model {config.model} makes no vectors of {config.dimensions} dimensions (by itself"
        f" {known_dimension(config.type, config.model)}), so no consent could be applied: correct"
        " spec.embedding.dimensions"
    )


def reshape_target(spec: ProviderSpec | None) -> int | None:
    """The dimension that an in-place change of this Provider leads to, as far as the spec alone tells."""
    if spec is None or (spec.embedding and spec.embedding.dimension_change == "Shadow"):
        return None
    return declared_dimension(spec)


def _base_url(spec: ProviderSpec) -> str | None:
    if spec.platform is not None and spec.platform.type == AZURE:
        return spec.platform.endpoint or spec.base_url  # the type's own would be OpenAI's
    return spec.base_url or default_base_url(spec.type)


def _platform(spec: ProviderSpec) -> PlatformConfig | None:
    if spec.platform is None:
        return None
    return PlatformConfig(
        type=str(spec.platform.type),
        region=spec.platform.region,
        project=spec.platform.project,
        endpoint=spec.platform.endpoint,
    )


def _budget(budget: BudgetSpec | None) -> BudgetConfig:
    if budget is None:
        return BudgetConfig()
    return BudgetConfig(
        tokens_per_job=budget.tokens_per_job,
        cost_per_job=None if budget.cost_per_job is None else Decimal(budget.cost_per_job),
        tokens_per_day=budget.tokens_per_day,
        cost_per_day=None if budget.cost_per_day is None else Decimal(budget.cost_per_day),
    )


def _credential(spec: ProviderSpec) -> CredentialRef | None:
    if spec.auth is not None and spec.auth.type == WORKLOAD_IDENTITY:
        return None
    credential = spec.credential
    if credential is None:
        of_platform = spec.auth.credentials_secret_ref if spec.auth else None
        return CredentialRef(secret=_secret(of_platform)) if of_platform else None
    return CredentialRef(
        secret=_secret(credential.secret_ref),
        env_var=credential.env_var,
        file_path=credential.file_path,
    )
