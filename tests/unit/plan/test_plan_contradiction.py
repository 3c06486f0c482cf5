"""A dimension that a model is known not to make is told while the change is held."""

from __future__ import annotations

import pytest

from memory_operator.contract.provider import EmbeddingSpec, ProviderSpec
from memory_operator.plan.desired import call_config, contradiction, space_config


def told(provider_type: str, model: str, dimensions: int) -> str | None:
    spec = ProviderSpec(
        type=provider_type, model=model, role="embedding", embedding=EmbeddingSpec(dimensions=dimensions)
    )
    return contradiction(space_config(call_config("agents", spec), spec, dimensions, 1))


def test_a_dimension_that_the_model_does_not_make_is_named_with_the_one_that_it_makes() -> None:
    text = told("local", "wordllama", 100)
    assert text is not None
    assert "wordllama makes no vectors of 100 dimensions (by itself 256)" in text


@pytest.mark.parametrize(("provider_type", "model", "dimensions"), [("local", "wordllama", 64), ("mock", "any", 7)])
def test_nothing_is_said_of_what_the_model_makes_or_nobody_knows(
    provider_type: str, model: str, dimensions: int
) -> None:
    assert told(provider_type, model, dimensions) is None
