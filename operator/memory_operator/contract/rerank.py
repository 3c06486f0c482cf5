"""`spec.embedding.rerank`: whose API puts the first results of a query into another order."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from memory_operator.contract.fields import (
    CEL_VALIDATIONS,
    BaseUrl,
    DecimalText,
    Duration,
    SecretKeyRef,
    SpecModel,
    duration_seconds,
    rule,
)

RerankForm = Literal["Cohere", "Voyage", "Jina", "TEI"]
RerankWhen = Literal["Always", "OnRequest"]

FORMS_BY_TYPE: dict[str, RerankForm] = {
    "cohere": "Cohere",
    "voyageai": "Voyage",
    "openai_compatible": "Jina",
    "vllm": "Jina",
    "huggingface": "TEI",
}
"""Types whose own server may have a rerank API, and the form that it has unless the Provider says otherwise."""
MOST_SECONDS = 10.0
MOST_TEXTS = 100
DEFAULT_TEXTS = 30
DEFAULT_SECONDS = 2.0
TYPES_WITH_AN_API = ", ".join(list(FORMS_BY_TYPE)[:-1]) + f" or {list(FORMS_BY_TYPE)[-1]}"

_FORM_IS_MISSING = "form is required with baseURL"
_NOT_ITS_SERVER = "secretRef and caSecretRef go with baseURL; without it the Provider's own are used"
_TOO_LONG = "a query waits for re-ranking 10s at most"


def _short_enough(text: str) -> str:
    if duration_seconds(text) > MOST_SECONDS:
        raise ValueError(_TOO_LONG)
    return text


class RerankSpec(SpecModel):
    """Re-ranking: a model reads the question beside each of the first results, and says how well they answer it."""

    model_config = ConfigDict(
        json_schema_extra={
            CEL_VALIDATIONS: [
                rule(
                    "!has(self.baseURL) || has(self.form)",
                    _FORM_IS_MISSING,
                    fieldPath=".form",
                    reason="FieldValueRequired",
                ),
                rule("has(self.baseURL) || !(has(self.secretRef) || has(self.caSecretRef))", _NOT_ITS_SERVER),
                rule("!has(self.timeout) || duration(self.timeout) <= duration('10s')", _TOO_LONG),
            ]
        }
    )

    form: RerankForm | None = Field(
        default=None, description="Whose API it is; when left out, what servers of the Provider's type have."
    )
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="Name of the reranking model; TEI needs none."
    )
    base_url: BaseUrl | None = Field(
        default=None,
        alias="baseURL",
        description="Another server than the Provider's own; the Provider's credential and headers are not sent there.",
    )
    secret_ref: SecretKeyRef | None = Field(default=None, description="The key for that server.")
    ca_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Certificates to trust for it; ca.crt when no key is named."
    )
    top: Annotated[int, Field(ge=1, le=MOST_TEXTS)] | None = Field(
        default=None,
        description=f"How many of the first results are sent with a question; {DEFAULT_TEXTS} when left out.",
    )
    timeout: Annotated[Duration, AfterValidator(_short_enough)] | None = Field(
        default=None, description="How long a query waits for it, 10s at most; 2s when left out."
    )
    when: RerankWhen | None = Field(
        default=None,
        description="Always (when left out): each query that reads the Provider's space; or OnRequest.",
    )
    input_cost_per_1_k: DecimalText | None = Field(
        default=None, alias="inputCostPer1K", description="US dollars for 1,000 tokens of the reranking model."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> RerankSpec:
        if self.base_url is not None and self.form is None:
            raise ValueError(_FORM_IS_MISSING)
        if self.base_url is None and (self.secret_ref or self.ca_secret_ref):
            raise ValueError(_NOT_ITS_SERVER)
        return self
