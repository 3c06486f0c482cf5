"""The comparison of desired with applied, case by case."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from memory_operator.plan.consent import Consent, Marker
from memory_operator.plan.decide import (
    Beside,
    Create,
    Desired,
    Duplicate,
    Existing,
    Hold,
    Keep,
    Plan,
    Reshape,
    SpaceNow,
    decide,
)
from memory_operator.plan.index import IndexConfig
from memory_operator.plan.space import CredentialRef, SecretKeyConfig, SpaceConfig, with_call_fields

NO = Consent(None, "none")
YES = Consent(Marker(7, 128, None, datetime.now(UTC), "x", datetime.now(UTC), "valid"), "")


def config(model: str = "a", dimensions: int = 64, **changes: Any) -> SpaceConfig:
    return SpaceConfig(
        namespace="agents", type="mock", model=model, dimensions=dimensions, preprocessing_version=1, **changes
    )


def has(model: str = "a", dimensions: int = 64, vectors: int = 10, number: int = 1, **changes: Any) -> SpaceNow:
    return SpaceNow(number, config(model, dimensions, **changes), "cosine", vectors)


@pytest.mark.parametrize(
    ("desired", "applied", "beside", "consent", "expected"),
    [
        (Desired(config()), None, None, NO, Create(None)),
        (Desired(config()), has(), None, NO, Keep(refresh=False, redistance=False)),
        (Desired(config()), has(), None, YES, Keep(refresh=False, redistance=False)),
        (Desired(config(distance="l2")), has(), None, NO, Keep(refresh=True, redistance=True)),
        (Desired(config(index=IndexConfig(kind="none"))), has(), None, NO, Keep(refresh=True, redistance=False)),
        (Desired(config("b")), has(), None, NO, Beside(None)),
        (Desired(config("b")), has(), has("b", number=2), NO, Beside(2)),
        (Desired(config("c")), has(), has("b", number=2), NO, Beside(None)),
        (Desired(config(column_type="halfvec")), has(), None, NO, Beside(None)),
        (Desired(config(query_prefix="q: ")), has(), None, NO, Keep(refresh=True, redistance=False)),
        (Desired(config(dimensions=128)), has(vectors=0), None, NO, Reshape(None)),
        (Desired(config(dimensions=128)), has(vectors=0), None, YES, Reshape(None)),
        (Desired(config(dimensions=128)), has(), None, NO, Hold("none")),
        (Desired(config(dimensions=128)), has(), None, YES, Reshape(7)),
        (Desired(config(dimensions=128), "Shadow"), has(), None, NO, Beside(None)),
    ],
)
def test_each_case_of_the_gate(
    desired: Desired, applied: SpaceNow | None, beside: SpaceNow | None, consent: Consent, expected: Plan
) -> None:
    assert decide(desired, applied, beside, None, consent) == expected


@pytest.mark.parametrize(
    ("owner", "expected"), [("agents/other", Duplicate("agents/other", swap=False)), (None, Create(5))]
)
def test_a_space_that_is_there_already_is_taken_over_unless_another_live_provider_has_it(
    owner: str | None, expected: Plan
) -> None:
    assert decide(Desired(config()), None, None, Existing(5, owner), NO) == expected


@pytest.mark.parametrize("consent", [NO, YES])
def test_a_space_of_the_desired_identity_that_is_still_there_is_switched_back_to_without_consent(
    consent: Consent,
) -> None:
    assert decide(Desired(config(dimensions=128)), has(), None, Existing(5), consent) == Beside(5)
    assert decide(Desired(config(dimensions=128)), has(), has(dimensions=128, number=2), None, consent) == Beside(2)


def test_what_release_0_1_began_beside_for_a_query_prefix_goes_on_until_that_is_edited_again() -> None:
    begun = has(query_prefix="q: ", number=2)
    assert decide(Desired(config(query_prefix="q: ")), has(), begun, None, NO) == Beside(2)
    assert decide(Desired(config(query_prefix="r: ")), has(), begun, None, NO) == Keep(refresh=True, redistance=False)
    assert decide(Desired(config()), has(), begun, None, NO) == Keep(refresh=False, redistance=False)


def test_a_key_of_another_vendor_never_reaches_an_applied_space() -> None:
    new_key = CredentialRef(secret=SecretKeyConfig(name="new"))
    applied = config(base_url="https://old.example")
    followed = with_call_fields(applied, config(base_url="https://old.example", dimensions=128, credential=new_key))
    assert followed.credential == new_key
    assert followed.identity == applied.identity
    elsewhere = with_call_fields(applied, config(base_url="https://new.example", credential=new_key))
    assert elsewhere == applied


def test_the_identity_holds_the_dimension_and_all_that_makes_vectors_comparable() -> None:
    plain = config()
    assert plain.key == "mock||a|64"
    different = [
        config("b"),
        config(dimensions=32),
        config(base_url="http://x"),
        config(document_prefix="d: "),
        config(column_type="halfvec"),
    ]
    assert len({plain.identity, *(each.identity for each in different)}) == 6
    same = [
        config(query_prefix="q: "),
        config(distance="l2"),
        config(batch_size=5),
        config(timeout_seconds=1.0),
        config(headers={"X": "y"}),
    ]
    assert {each.identity for each in same} == {plain.identity}


def test_the_identity_of_release_0_1_is_formed_as_that_release_formed_it() -> None:
    made = SpaceConfig(
        namespace="agents",
        type="cohere",
        model="a",
        dimensions=64,
        preprocessing_version=1,
        query_prefix="q: ",
        document_prefix="d: ",
    )
    assert made.identity_of_0_1 == "cohere||a|64#a473a78694e38f2f"
    assert made.model_copy(update={"type": "mock"}).identity_of_0_1 == "mock||a|64#d3ef3d6971fc700e"
