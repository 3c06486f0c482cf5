"""What is warned about when a Provider is created or edited."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fixtures.edits import COMPATIBLE, manifest, status
from memory_operator.contract.warnings import MAX_CHARACTERS, warnings_for

KEPT = "spec.embedding.keepFor: the old model embeds new memories too for 24h after the switch; 0s turns it off"


def test_an_edit_of_the_dimension_in_place_says_what_is_discarded_and_how_to_consent() -> None:
    old = manifest(embedding={"dimensions": 1536}, status=status())
    assert warnings_for(old, manifest(embedding={"dimensions": 768})) == [
        "spec.embedding.dimensions: 1536 to 768 discards 120431 vectors; held until one-shot consent names 768",
        'spec.embedding.dimensions: to consent, POST /admin/embedding-dimension-change {"target_dim":768}',
        "spec.embedding.dimensionChange: Shadow would discard nothing, need no consent, and store both until a prune",
    ]


def test_the_same_edit_as_shadow_says_what_it_costs() -> None:
    old = manifest(embedding={"dimensions": 1536}, status=status())
    assert warnings_for(old, manifest(embedding={"dimensions": 768, "dimensionChange": "Shadow"})) == [
        "spec.embedding.dimensions: 1536 to 768 embeds 120500 chunks again; the old one answers until full",
        "spec.embedding.dimensionChange: Shadow stores the old vectors and the new ones until a prune",
        KEPT,
    ]


def test_a_model_of_another_dimension_is_blamed_where_no_dimension_is_declared() -> None:
    new = manifest({"role": "embedding", "type": "ollama", "model": "nomic-embed-text", "baseURL": "http://ollama.ai"})
    found = warnings_for(manifest(), new)
    assert found[0] == "spec.type: 1536 to 768 discards all stored vectors; held until one-shot consent names 768"


@pytest.mark.parametrize(
    "stale",
    [
        status(observedGeneration=2),
        status(observedGeneration=None),
        {**status(), "phase": "Reembedding"},
        {"embedding": None},
        {},
    ],
)
def test_figures_that_are_not_current_are_never_a_number(stale: dict[str, Any]) -> None:
    old = manifest(embedding={"dimensions": 1536}, status=stale)
    found = warnings_for(old, manifest(embedding={"dimensions": 768}))
    assert "1536 to 768 discards all stored vectors;" in found[0]


def test_the_annotation_stands_in_for_the_status_where_another_crd_is_installed() -> None:
    figures = {"phase": "Ready", "appliedDimensions": 1536, "vectors": 77, "observedGeneration": 3}
    old = manifest(
        embedding={"dimensions": 1536},
        status={"phase": "Ready"},
        annotations={"memory-operator/embedding-status": json.dumps(figures)},
    )
    found = warnings_for(old, manifest(embedding={"dimensions": 768}))
    assert "discards 77 vectors" in found[0]
    old["metadata"]["generation"] = 4
    assert "discards all stored vectors" in warnings_for(old, manifest(embedding={"dimensions": 768}))[0]


def test_nothing_is_said_to_be_discarded_where_no_vector_is_stored() -> None:
    old = manifest(embedding={"dimensions": 1536}, status=status(vectors=0))
    assert warnings_for(old, manifest(embedding={"dimensions": 768})) == [
        "spec.embedding.dimensions: 1536 to 768 discards nothing: 0 vectors stored; any stored since wait for consent"
    ]


def beside_the_groups_own_crd(**more: Any) -> dict[str, Any]:
    """A Provider as the API server keeps it there: its status has no room for our figures."""
    figures = {"phase": "Ready", "appliedDimensions": 1536, "vectors": 77, "observedGeneration": 3}
    annotations = {"memory-operator/embedding-status": json.dumps(figures)}
    return manifest(embedding={"dimensions": 1536}, status={"phase": "Ready"}, annotations=annotations, **more)


@pytest.mark.parametrize(
    "old",
    [beside_the_groups_own_crd(), manifest(embedding={"dimensions": 1536, "distance": "cosine"})],
    ids=["with figures", "before any"],
)
def test_a_field_that_the_groups_own_crd_prunes_is_advised_as_an_annotation(old: dict[str, Any]) -> None:
    advice = warnings_for(old, manifest(embedding={"dimensions": 768}))[-1]
    path = "metadata.annotations[memory-operator/dimensionChange]"
    assert advice == f"{path}: Shadow would discard nothing, need no consent, and store both"


def test_there_a_shadow_that_is_taken_back_is_told_as_the_change_that_it_is() -> None:
    old = beside_the_groups_own_crd()
    old["metadata"]["annotations"]["memory-operator/dimensionChange"] = "Shadow"
    old["spec"]["embedding"]["dimensions"] = 768
    found = warnings_for(old, manifest(embedding={"dimensions": 768}))
    assert (
        found[0] == "spec.embedding.dimensions: 1536 to 768 discards 77 vectors; held until one-shot consent names 768"
    )


def test_a_field_of_ours_in_the_manifest_shows_whose_crd_it_is() -> None:
    old = manifest(embedding={"dimensions": 1536, "activation": "Manual"})
    advice = warnings_for(old, manifest(embedding={"dimensions": 768, "activation": "Manual"}))[-1]
    assert advice.startswith("spec.embedding.dimensionChange: Shadow")


def test_an_annotation_makes_a_change_shadow_too() -> None:
    new = manifest(embedding={"dimensions": 768}, annotations={"memory-operator/dimensionChange": "Shadow"})
    found = warnings_for(manifest(embedding={"dimensions": 1536}), new)
    assert found[0].startswith("spec.embedding.dimensions: 1536 to 768 embeds all chunks again")


def test_from_shadow_to_in_place_in_mid_change_is_as_destructive_as_the_change() -> None:
    old = manifest(embedding={"dimensions": 768, "dimensionChange": "Shadow"}, status=status())
    found = warnings_for(old, manifest(embedding={"dimensions": 768}))
    assert found[0].startswith("spec.embedding.dimensionChange: 1536 to 768 discards 120431 vectors")


def test_taking_a_held_edit_back_warns_of_nothing() -> None:
    old = manifest(embedding={"dimensions": 768}, status=status(applied=1536))
    assert warnings_for(old, manifest(embedding={"dimensions": 1536})) == []


def test_taking_back_model_and_dimension_does_not_claim_that_all_is_embedded_again() -> None:
    old = manifest(embedding={"dimensions": 768}, model="nomic", status=status(applied=1536))
    assert warnings_for(old, manifest(embedding={"dimensions": 1536})) == [
        "spec.model: 1536 is stored already; embeds 120500 chunks again unless it is the applied space"
    ]


def test_another_edit_of_a_held_change_is_still_a_change_of_the_stored_dimension() -> None:
    old = manifest(COMPATIBLE, embedding={"dimensions": 768}, status=status(applied=1536))
    found = warnings_for(old, manifest(COMPATIBLE, model="n", embedding={"dimensions": 768}))
    assert found[0].startswith("spec.model: 1536 to 768 discards 120431 vectors")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"model": "other"}, "spec.model"),
        ({"baseURL": "https://gateway.example"}, "spec.baseURL"),
        ({"embedding": {"dimensions": 1536, "documentPrefix": "d: "}}, "spec.embedding.documentPrefix"),
        ({"embedding": {"dimensions": 1536, "columnType": "halfvec"}}, "spec.embedding.columnType"),
        ({"model": "other", "baseURL": "https://gateway.example"}, "spec.model (and 1 more)"),
    ],
)
def test_what_makes_another_space_at_the_same_dimension_says_what_is_embedded_again(
    change: dict[str, Any], path: str
) -> None:
    old = manifest(embedding={"dimensions": 1536}, status=status())
    found = warnings_for(old, manifest(**{"embedding": {"dimensions": 1536}, **change}))
    assert found == [f"{path}: embeds 120500 chunks again into a new space; the old one answers until full", KEPT]


def test_a_query_prefix_alone_embeds_nothing_and_beside_another_edit_it_belongs_to_the_new_space() -> None:
    old = manifest(embedding={"dimensions": 1536}, status=status())
    assert warnings_for(old, manifest(embedding={"dimensions": 1536, "queryPrefix": "q: "})) == [
        "spec.embedding.queryPrefix: used from the next query on; nothing is embedded again"
    ]
    found = warnings_for(old, manifest(model="other", embedding={"dimensions": 1536, "queryPrefix": "q: "}))
    assert found == ["spec.model: embeds 120500 chunks again into a new space; the old one answers until full", KEPT]


def test_with_manual_activation_the_old_space_answers_until_activate() -> None:
    old = manifest(embedding={"dimensions": 1536})
    found = warnings_for(old, manifest(model="other", embedding={"dimensions": 1536, "activation": "Manual"}))
    assert found == ["spec.model: embeds all chunks again into a new space; the old one answers until activate", KEPT]


@pytest.mark.parametrize(
    "change",
    [
        {"baseURL": "https://api.openai.com/v1/"},
        {"headers": {"X-Team": "a"}},
        {"credential": {"secretRef": {"name": "other"}}},
        {"embedding": {"dimensions": 1536, "distance": "dot", "batchSize": 3}},
        {"embedding": {}},
    ],
)
def test_what_makes_no_other_space_is_not_warned_about(change: dict[str, Any]) -> None:
    new = manifest(**{"embedding": {"dimensions": 1536}, **change})
    assert [w for w in warnings_for(manifest(embedding={"dimensions": 1536}), new) if "removed" not in w] == []


@pytest.mark.parametrize(
    ("column", "dimensions", "text"),
    [
        ("vector", 3072, "3072 is above 2000, the limit of vector, and is refused; index hnsw-halfvec goes to 4000"),
        ("vector", 4096, "4096 is above 2000, the limit of vector, and is refused"),
        ("halfvec", 4001, "4001 is above 4000, the limit of halfvec, and is refused"),
    ],
)
def test_a_dimension_above_the_limit_is_named_and_nothing_is_said_to_be_discarded(
    column: str, dimensions: int, text: str
) -> None:
    new = manifest(COMPATIBLE, embedding={"dimensions": dimensions, "columnType": column})
    assert warnings_for(None, new) == [f"spec.embedding.dimensions: {text}"]
    old = manifest(COMPATIBLE, embedding={"dimensions": 768, "columnType": column})
    assert warnings_for(old, new) == [f"spec.embedding.dimensions: {text}"]


def test_a_model_whose_own_dimension_is_above_the_limit_is_blamed_itself() -> None:
    found = warnings_for(None, manifest(model="text-embedding-3-large"))
    assert found == [
        "spec.model: 3072 is above 2000, the limit of vector, and is refused; index hnsw-halfvec goes to 4000"
    ]


def test_a_dimension_that_contradicts_the_known_model_is_named() -> None:
    new = manifest({"role": "embedding", "type": "ollama", "model": "nomic-embed-text:v1.5", "baseURL": "http://o"})
    new["spec"]["embedding"] = {"dimensions": 1024}
    assert warnings_for(None, new) == [
        "spec.embedding.dimensions: 1024, but nomic-embed-text:v1.5 makes 768; nothing is stored while they differ"
    ]


def test_a_shorter_dimension_of_a_model_in_ollama_is_no_contradiction() -> None:
    new = manifest({"role": "embedding", "type": "ollama", "model": "nomic-embed-text:v1.5", "baseURL": "http://o"})
    new["spec"]["embedding"] = {"dimensions": 512}
    assert warnings_for(None, new) == []


@pytest.mark.parametrize(
    ("kind", "model", "dimensions"),
    [("openai", "text-embedding-3-small", 512), ("openai", "tei-model", 99), ("local", "wordllama", 64)],
)
def test_a_dimension_that_the_model_can_be_asked_for_contradicts_nothing(
    kind: str, model: str, dimensions: int
) -> None:
    assert warnings_for(None, manifest(type=kind, model=model, embedding={"dimensions": dimensions})) == []


def test_removing_the_dimension_says_what_counts_now() -> None:
    old = manifest(embedding={"dimensions": 1536})
    assert warnings_for(old, manifest()) == [
        "spec.embedding.dimensions: removed; the 1536 of the model itself count from now on"
    ]
    old = manifest(COMPATIBLE, embedding={"dimensions": 768})
    assert warnings_for(old, manifest(COMPATIBLE)) == [
        "spec.embedding.dimensions: removed; a probe call finds it out, and another than 768 waits for consent"
    ]


def test_a_model_of_unknown_dimension_says_that_consent_may_be_needed() -> None:
    found = warnings_for(manifest(), manifest(model="unheard-of"))
    assert found[-1] == "spec.model: the dimension is unknown before a call; another than 1536 waits for consent"


def test_declaring_a_dimension_where_none_was_known_says_that_consent_may_be_needed() -> None:
    found = warnings_for(manifest(COMPATIBLE), manifest(COMPATIBLE, embedding={"dimensions": 768}))
    assert found == [
        "spec.embedding.dimensions: if the stored vectors have another length than 768, this waits for consent"
    ]


def test_a_missing_credential_is_named_only_where_one_is_needed() -> None:
    missing = "spec.credential: type openai needs one; until then nothing is embedded and Ready stays False"
    assert warnings_for(None, manifest(credential={})) == [missing]
    assert warnings_for(None, manifest(COMPATIBLE)) == []
    azure = {"platform": {"type": "azure", "endpoint": "https://a"}, "auth": {"type": "workloadIdentity"}}
    assert warnings_for(None, manifest(credential={}, **azure)) == []


@pytest.mark.parametrize("host", ["localhost:11434", "127.0.0.1", "127.8.0.1:80", "[::1]:8080", "api.localhost"])
def test_a_loopback_base_url_is_named(host: str) -> None:
    found = warnings_for(None, manifest(COMPATIBLE, baseURL=f"http://{host}/v1"))
    assert len(found) == 1
    assert found[0].endswith("is a loopback address, which in a pod is the pod itself")


def test_ollama_without_a_base_url_is_looked_for_in_the_pod_itself() -> None:
    seed = {"role": "embedding", "type": "ollama", "model": "nomic-embed-text", "embedding": {"dimensions": 768}}
    assert warnings_for(None, manifest(seed)) == [
        "spec.baseURL: left out, so ollama is looked for at 127.0.0.1, which in a pod is the pod itself"
    ]


def test_a_type_or_platform_without_an_embedding_api_is_named() -> None:
    assert warnings_for(None, manifest(type="claude"))[0].startswith("spec.type: claude is not supported")
    bedrock = manifest(platform={"type": "bedrock"}, auth={"type": "accessKey"})
    assert warnings_for(None, bedrock)[0].startswith("spec.platform.type: bedrock is not supported")


def test_keys_that_only_yaml_can_have_stop_no_warning() -> None:
    azure = {"platform": {"type": "azure", "endpoint": "https://a", None: 1, 5: {}}, "auth": {"type": "accessKey"}}
    assert "spec.platform: embeds all chunks again" in warnings_for(manifest(), manifest(**azure))[-2]


def test_leaving_the_role_counts_as_deletion_and_says_so() -> None:
    assert warnings_for(manifest(), manifest(role="llm")) == [
        "spec.role: no longer embedding, which counts as deletion; the vectors stay until they are pruned"
    ]


def test_other_roles_are_left_alone() -> None:
    assert warnings_for(None, manifest(role="llm", type="claude", credential={})) == []
    assert warnings_for(manifest(role="llm"), manifest(role="tts", model="x")) == []


def test_coming_into_the_role_is_a_creation() -> None:
    assert warnings_for(manifest(role="llm", model="x"), manifest(embedding={"dimensions": 768})) == []


def test_an_edit_that_is_not_ours_says_nothing_again() -> None:
    wrong = {"credential": {}, "model": "text-embedding-3-large"}
    old, new = manifest(**wrong), manifest(annotations={"team": "b"}, **wrong)
    assert warnings_for(None, new)
    assert warnings_for(old, new) == []


def test_an_annotation_with_a_typo_is_named_when_it_is_added_to_an_object_that_was_right() -> None:
    old = manifest(embedding={"dimensions": 1536})
    new = manifest(annotations={"memory-operator/dimensionChang": "Shadow"}, embedding={"dimensions": 1536})
    assert len(warnings_for(old, new)) == 1
    assert warnings_for(new, new) == []
    assert warnings_for(new, old) == []


def test_naming_the_model_that_a_local_provider_has_anyway_changes_nothing() -> None:
    local = {"role": "embedding", "type": "local"}
    assert warnings_for(manifest(local), manifest(local, model="wordllama")) == []


def test_an_annotation_with_a_typo_is_named() -> None:
    new = manifest(annotations={"memory-operator/dimensionChang": "Shadow"}, embedding={"dimensions": 1536})
    assert warnings_for(None, new) == [
        (
            "metadata.annotations[memory-operator/dimensionChang]: unknown field; did you mean dimensionChange?"
            " (not applied)"
        )
    ]


RERANK: dict[str, Any] = {"form": "TEI", "baseURL": "http://rerank.models.svc"}


def test_re_ranking_says_whose_server_gets_texts_of_memories_and_that_nothing_is_embedded() -> None:
    said = ["spec.embedding.rerank: queries send up to 30 memories' texts to rerank.models.svc; nothing is embedded"]
    new = manifest(embedding={"rerank": RERANK}, status=status())
    assert warnings_for(manifest(status=status()), new) == said
    assert warnings_for(None, new) == said
    assert warnings_for(new, new) == []
    fewer = manifest(embedding={"rerank": {**RERANK, "top": 5}}, status=status())
    assert "up to 5 memories' texts" in warnings_for(new, fewer)[0]
    assert warnings_for(new, manifest(status=status())) == [
        "spec.embedding.rerank: removed; queries are answered without it, and nothing is embedded again"
    ]


def test_re_ranking_by_the_providers_own_server_names_that_and_follows_it() -> None:
    own = {"model": "reranker", "top": 100}
    new = manifest(COMPATIBLE, embedding={"rerank": own})
    assert warnings_for(None, new) == [
        "spec.embedding.rerank: queries send up to 100 memories' texts to tei.models.svc; nothing is embedded"
    ]
    moved = manifest(COMPATIBLE, embedding={"rerank": own}, baseURL="http://else.where.svc")
    assert any("texts to else.where.svc" in warning for warning in warnings_for(new, moved))


def test_a_reranker_on_loopback_is_warned_of_in_a_pod_alone() -> None:
    new = manifest(embedding={"rerank": {"form": "TEI", "baseURL": "http://127.0.0.1:8080"}})
    assert warnings_for(None, new)[1:] == [
        "spec.embedding.rerank.baseURL: 127.0.0.1 is a loopback address, which in a pod is the pod itself"
    ]
    assert len(warnings_for(None, new, in_pod=False)) == 1


@pytest.mark.parametrize("rerank", [{"top": "x", "baseURL": 5}, {"baseURL": "http://" + "h" * 300}, [], 7, "x"])
def test_a_reranker_that_cannot_be_read_is_warned_of_without_an_error(rerank: Any) -> None:
    found = warnings_for(manifest(), manifest(embedding={"rerank": rerank}))
    assert all(len(warning) <= MAX_CHARACTERS for warning in found)
    assert found


def test_what_the_way_back_costs_is_priced_where_a_price_is_declared_and_not_said_where_there_is_none() -> None:
    old = manifest(pricing={"inputCostPer1K": "0.02"}, embedding={"dimensions": 1536, "keepFor": "2h"})
    found = warnings_for(old, manifest(model="other", embedding={"dimensions": 1536, "keepFor": "2h"}))
    text = "the old model embeds new memories too for 2h after the switch, at USD 0.02 per 1000 tokens"
    assert found[-1] == f"spec.embedding.keepFor: {text}"
    found = warnings_for(old, manifest(model="other", embedding={"dimensions": 1536, "keepFor": "0s"}))
    assert not any("keepFor" in warning for warning in found)
