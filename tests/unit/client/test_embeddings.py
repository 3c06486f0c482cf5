"""The spaces: listed, activated, pruned, consented to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from fixtures.memory_api import Received, Reply, StubMemoryApi, problem
from fixtures.store_state import EFFECT, filling, held, space, state

Run = Callable[..., Result]

SPACES = "/v1/embeddings/spaces"
ACTIVATE = "/v1/embeddings/activate"
PRUNE = "/v1/prune-embeddings"
CONSENT = "/admin/embedding-dimension-change"


def test_the_active_space_has_a_star_and_one_in_trouble_an_exclamation_mark(
    run: Run, memory_api: StubMemoryApi
) -> None:
    spaces = [
        space(active=True),
        filling(coverage=0.9999, quarantined=3, trouble="\x1b[31mno answer"),
        space("both", active=True, trouble="x"),
    ]
    memory_api.on("GET", SPACES, Reply({"spaces": spaces}))
    result = run("embeddings", "list")
    assert result.stdout.splitlines() == [
        "\tNAME\tPROVIDER\tDIMS\tSTATE\tVECTORS\tCOVERAGE\tQUARANTINED\tMODEL\tDISTANCE\tINDEX\tCREATE",
        "*\tm-768-1\tagents/memory-embeddings\t768\tready\t1,000\t100 %\t0\tm\tcosine\thnsw\tyes",
        "!\tm-768-2\tagents/memory-embeddings\t768\tfilling\t1,000\t99.9 %\t3\tm\tcosine\thnsw\tyes",
        "*!\tboth\tagents/memory-embeddings\t768\tready\t1,000\t100 %\t0\tm\tcosine\thnsw\tyes",
    ]
    assert "! m-768-2: [31mno answer" in result.stderr
    assert json.loads(run("embeddings", "list", "--json").stdout) == {"spaces": spaces}


def test_what_is_in_no_index_yet_is_told_and_that_a_worker_may_be_missing(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on(
        "GET",
        "/v1/embeddings/status",
        state(space(active=True, unindexed=1_234), space("late", unindexed=5_001), space("no")),
    )
    told = run("embeddings", "status").stderr.splitlines()
    assert told == [
        "m-768-1: 1,234 vectors are not in its index yet",
        "! late: more than 5,000 vectors are not in its index, which slows queries down; is a worker running?",
    ]


def test_a_kept_space_is_told_until_when_it_leads_back_and_a_prune_of_it_says_so(
    run: Run, memory_api: StubMemoryApi
) -> None:
    kept = {"kept_until": "2026-11-28T10:00:00Z", "kept_tokens": 1200, "kept_cost": "0.024", "cost_per_1k": "0.02"}
    memory_api.on("GET", SPACES, Reply({"spaces": [space(active=True), space("old", state="retired", **kept)]}))
    told = run("embeddings", "list").stderr
    assert "old gets new memories until 2026-11-2" in told
    assert "at USD 0.02 per 1,000 tokens, and activate leads back at once" in told
    assert "that took 1,200 tokens (USD 0.024) so far" in told
    pruned = {"embedding_version": "old", "provider": "agents/memory-embeddings", "state": "retired", "vectors": 3}
    document = {"dry_run": True, "spaces": [{**pruned, "bytes": 8192, "kept_until": kept["kept_until"]}]}
    memory_api.on("POST", PRUNE, Reply(document))
    found = run("embeddings", "prune", "--dry-run").stdout
    assert "would remove old of agents/memory-embeddings (retired): 3 vectors" in found
    assert "activate leads back to it" in found


def activated(request: Received) -> Reply:
    name = request.body.get("embedding_version", "m-768-1")
    return Reply({"status": "activated", "space": space(name, active=True)})


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("m-768-1", {"embedding_version": "m-768-1", "force": False}),
        ("agents/memory-embeddings", {"provider": "agents/memory-embeddings", "force": False}),
    ],
)
def test_a_space_is_activated_by_its_name_or_its_provider(
    run: Run, memory_api: StubMemoryApi, name: str, sent: dict[str, Any]
) -> None:
    memory_api.on("GET", SPACES, Reply({"spaces": [space(), space("m-768-2")]}))
    memory_api.on("POST", ACTIVATE, activated)
    result = run("embeddings", "activate", name)
    assert (result.exit_code, result.stdout) == (0, "m-768-1 is active\n")
    assert memory_api.bodies("POST", ACTIVATE) == [sent]


def test_a_providers_name_alone_will_do_where_it_is_the_only_one(run: Run, memory_api: StubMemoryApi) -> None:
    missing = problem(404, "not_found", "there is no space")
    memory_api.on("POST", ACTIVATE, lambda request: activated(request) if "provider" in request.body else missing)
    memory_api.on("GET", SPACES, Reply({"spaces": [space(), space("m-768-2")]}))
    assert run("embeddings", "activate", "memory-embeddings", "--force").exit_code == 0
    assert memory_api.bodies("POST", ACTIVATE)[-1] == {"provider": "agents/memory-embeddings", "force": True}

    memory_api.on("GET", SPACES, Reply({"spaces": [space(), space("x", provider="other/memory-embeddings")]}))
    ambiguous = run("embeddings", "activate", "memory-embeddings")
    assert ambiguous.exit_code == 1
    assert "agents/memory-embeddings, other/memory-embeddings" in ambiguous.stderr


def test_a_name_that_nothing_has_is_answered_with_the_names_there_are(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", ACTIVATE, problem(404, "not_found", "there is no space nope"))
    memory_api.on("GET", SPACES, Reply({"spaces": [space(), space("m-768-2")]}))
    result = run("embeddings", "activate", "nope")
    assert result.exit_code == 1
    assert result.stderr == "error: there is no space 'nope'\nhint: spaces: m-768-1, m-768-2\n"


def test_the_beginning_of_a_spaces_name_will_do_where_no_other_begins_like_it(
    run: Run, memory_api: StubMemoryApi
) -> None:
    memory_api.on("GET", SPACES, Reply({"spaces": [space("nomic-768-1"), space("minilm-384-2"), space("mini-8-3")]}))
    memory_api.on("POST", ACTIVATE, activated)
    assert run("embeddings", "activate", "nom").exit_code == 0
    assert memory_api.bodies("POST", ACTIVATE) == [{"embedding_version": "nomic-768-1", "force": False}]
    ambiguous = run("embeddings", "activate", "mini")
    assert ambiguous.exit_code == 1
    assert "spaces that begin so: minilm-384-2, mini-8-3" in ambiguous.stderr


def test_embedding_of_new_memories_is_turned_off_by_provider(run: Run, memory_api: StubMemoryApi) -> None:
    path = "/v1/embeddings/create-enabled"
    spaces = [space("old-8-1", state="retired"), space(), filling(), space("x-8-9", provider="other/one")]
    memory_api.on("GET", SPACES, Reply({"spaces": spaces}))
    memory_api.on("POST", path, lambda request: Reply({"status": "disabled", **request.body}))
    result = run("embeddings", "create-enabled", "memory-embeddings", "--off")
    assert [body["embedding_version"] for body in memory_api.bodies("POST", path)] == ["m-768-1", "m-768-2"]
    assert all(body["enabled"] is False for body in memory_api.bodies("POST", path))
    assert result.stdout.splitlines()[0] == "m-768-1: embedding of new memories is disabled"


def test_pruning_for_a_project_says_that_spaces_go_as_a_whole(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", PRUNE, pruned)
    result = run("embeddings", "prune", "--project", "my-project", "--dry-run")
    assert result.exit_code == 0
    assert "not of my-project alone" in result.stderr
    assert memory_api.bodies("POST", PRUNE) == [{"dry_run": True}]


def test_too_little_coverage_is_exit_code_9_and_says_how_to_go_on(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", SPACES, Reply({"spaces": [space("m-768-2")]}))
    refusal = problem(409, "coverage_below_threshold", "only 25 of 100 chunks have a vector", 'give "force": true')
    memory_api.on("POST", ACTIVATE, refusal)
    result = run("embeddings", "activate", "m-768-2")
    assert result.exit_code == 9
    assert "only 25 of 100" in result.stderr
    assert "--force" in result.stderr


def test_deactivation_says_that_nothing_is_lost(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", "/v1/embeddings/deactivate", Reply({"status": "deactivated"}))
    assert run("embeddings", "deactivate").stdout == "semantic search is off; the vectors are kept\n"


def pruned(request: Received) -> Reply:
    old = {"embedding_version": "old-8-1", "provider": "a/b", "state": "retired", "vectors": 1000, "bytes": 3_400_000}
    return Reply({"dry_run": request.body["dry_run"], "spaces": [old]})


def test_a_dry_run_of_prune_names_what_would_go_and_removes_nothing(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", PRUNE, pruned)
    result = run("embeddings", "prune", "--dry-run")
    assert result.stdout == "would remove old-8-1 of a/b (retired): 1,000 vectors, 3.4 MB\n"
    assert memory_api.bodies("POST", PRUNE) == [{"dry_run": True}]


def test_prune_needs_a_yes_where_nobody_can_be_asked(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", PRUNE, pruned)
    assert run("embeddings", "prune", stdin="y\n").exit_code == 2
    assert memory_api.bodies("POST", PRUNE) == [{"dry_run": True}]
    done = run("embeddings", "prune", "--yes")
    assert done.stdout == "removed old-8-1 of a/b (retired): 1,000 vectors, 3.4 MB\n"
    assert memory_api.bodies("POST", PRUNE)[-1] == {"dry_run": False}


def test_prune_of_nothing_asks_nothing(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", PRUNE, Reply({"dry_run": True, "spaces": []}))
    result = run("embeddings", "prune")
    assert (result.exit_code, result.stdout) == (0, "nothing to prune\n")


def recorded(*, matches: bool) -> Reply:
    return Reply(
        {
            "status": "consent recorded",
            "target_dim": 768,
            "id": 5,
            "expires_at": "2026-02-01T12:00:00+00:00",
            "matches_held_change": matches,
            "effect": EFFECT if matches else None,
        }
    )


def test_a_consent_needs_a_yes_where_nobody_can_be_asked_and_names_what_it_discards(
    run: Run, memory_api: StubMemoryApi
) -> None:
    memory_api.on("GET", CONSENT, Reply({"held": [held(), held("other/one", to=512)], "markers": []}))
    result = run("embeddings", "consent", "768")
    assert result.exit_code == 2
    assert "agents/memory-embeddings: 1536 → 768 dimensions: 120,431 vectors are discarded" in result.stderr
    assert "other/one" not in result.stderr
    assert "--yes" in result.stderr
    assert memory_api.bodies("POST", CONSENT) == []


def test_a_consent_to_another_dimension_than_the_held_one_names_that_one(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", CONSENT, Reply({"held": [held(to=128)], "markers": []}))
    result = run("embeddings", "consent", "64")
    assert result.exit_code == 7
    assert "agents/memory-embeddings to 128" in result.stderr
    assert "memory embeddings consent 128 --provider agents/memory-embeddings --yes" in result.stderr
    assert memory_api.bodies("POST", CONSENT) == []


def test_a_change_that_has_its_consent_says_why_it_still_waits_and_advises_no_other_one(
    run: Run, memory_api: StubMemoryApi
) -> None:
    waiting = held(marker="waiting", message="the model makes 256 dimensions, not 768; nothing was discarded")
    memory_api.on("GET", CONSENT, Reply({"held": [waiting], "markers": []}))
    memory_api.on("GET", "/v1/embeddings/status", state(space(active=True), held=[waiting]))
    for shown in (run("embeddings", "consent").stdout, run("embeddings", "status").stdout, run("status").stdout):
        assert "it has its consent, and waits: the model makes 256 dimensions, not 768" in shown
        assert "allow it with" not in shown
    assert "the model makes 256 dimensions" in run("embeddings", "consent", "768").stderr


def test_a_consent_that_could_not_be_applied_is_told_before(run: Run, memory_api: StubMemoryApi) -> None:
    doubt = "the model m makes no vectors of 768 dimensions (by itself 256), so no consent could be applied"
    memory_api.on("GET", CONSENT, Reply({"held": [held(doubt=doubt)], "markers": []}))
    refused = run("embeddings", "consent", "768")
    assert refused.exit_code == 2
    assert doubt in refused.stderr
    shown = run("embeddings", "consent").stdout
    assert doubt in shown
    assert "allow it with" not in shown


def test_a_consent_with_a_yes_is_recorded_without_a_question(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", CONSENT, recorded(matches=True))
    provider = ("--provider", "agents/memory-embeddings")
    result = run("embeddings", "consent", "768", "--ttl", "1h30m", *provider, "--yes")
    assert result.exit_code == 0
    assert memory_api.bodies("POST", CONSENT) == [
        {"target_dim": 768, "provider": "agents/memory-embeddings", "ttl_seconds": 5400}
    ]
    assert "120,431 vectors are discarded" in result.stdout
    assert "3,600,000 tokens (0.072 USD)" in result.stdout


def test_consent_with_nothing_held_is_recorded_and_says_so(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", CONSENT, recorded(matches=False))
    memory_api.on("GET", CONSENT, Reply({"held": [held(to=512)], "markers": []}))
    result = run("embeddings", "consent", "768", "--yes")
    assert result.exit_code == 0
    assert "no change to this dimension is held" in result.stderr
    assert "memory embeddings consent 512 --provider agents/memory-embeddings" in result.stdout


@pytest.mark.parametrize(
    "arguments", [["many"], ["768", "--ttl", "soon"], ["768", "--ttl", "1h-"], ["768", "--withdraw", "5"]]
)
def test_a_consent_that_cannot_be_is_misuse(run: Run, memory_api: StubMemoryApi, arguments: list[str]) -> None:
    assert run("embeddings", "consent", *arguments).exit_code == 2
    assert memory_api.received == []


def test_a_dimension_that_the_server_does_not_allow_is_misuse(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", CONSENT, problem(400, "invalid_input", "target_dim must be between 1 and 2000"))
    result = run("embeddings", "consent", "3072", "--yes")
    assert result.exit_code == 2
    assert "target_dim must be between 1 and 2000" in result.stderr


def test_several_held_providers_ask_for_the_name_of_one(run: Run, memory_api: StubMemoryApi) -> None:
    refusal = problem(409, "ambiguous_provider", "several Providers are held at dimension 768: a/b, c/d", 'name {"…"}')
    memory_api.on("POST", CONSENT, refusal)
    result = run("embeddings", "consent", "768", "-y")
    assert result.exit_code == 1
    assert "a/b, c/d" in result.stderr
    assert "--provider" in result.stderr


def test_without_a_dimension_it_shows_what_is_held_and_every_marker(run: Run, memory_api: StubMemoryApi) -> None:
    marker = {"id": 4, "target_dim": 512, "provider": None, "state": "expired", "created_by": "eve"}
    memory_api.on("GET", CONSENT, Reply({"held": [held()], "markers": [marker]}))
    result = run("embeddings", "consent")
    assert result.exit_code == 0
    assert "1536 → 768 dimensions: 120,431 vectors are discarded" in result.stdout
    assert "memory embeddings consent 768 --provider agents/memory-embeddings" in result.stdout
    assert "4\t512\tany\texpired\teve" in result.stdout


def test_a_consent_can_be_withdrawn(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("DELETE", f"{CONSENT}/5", Reply(status=204))
    assert run("embeddings", "consent", "--withdraw", "5").stdout == "consent 5 is withdrawn\n"


WAITS = {
    "provider": "default/voyage-code",
    "phase": "Error",
    "reason": "SecretMissing",
    "message": "VOYAGE_API_KEY is set neither in memory-layer.env nor in the environment of this process",
}


def test_a_provider_without_a_space_has_a_row_of_its_own_and_its_reason(run: Run, memory_api: StubMemoryApi) -> None:
    starting = {"provider": "default/new", "phase": "Pending", "reason": "Pending", "message": "not looked at yet"}
    memory_api.on("GET", SPACES, Reply({"spaces": [space(active=True)], "without_space": [WAITS, starting]}))
    result = run("embeddings", "list")
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[:5] for row in rows[2:]] == [
        ["!", "voyage-code", "default/voyage-code", "–", "Error"],
        ["", "new", "default/new", "–", "Pending"],
    ]
    assert "! default/voyage-code has no space: SecretMissing: VOYAGE_API_KEY is set neither" in result.stderr
    assert "\ndefault/new has no space" in result.stderr


def test_a_space_whose_provider_is_not_applied_as_it_is_now_has_an_exclamation_mark(
    run: Run, memory_api: StubMemoryApi
) -> None:
    refused = {**WAITS, "provider": "agents/memory-embeddings"}
    spaces = [space("old-8-1", state="retired"), space(active=True)]
    memory_api.on("GET", SPACES, Reply({"spaces": spaces, "not_applied": [refused]}))
    rows = [line.split("\t") for line in run("embeddings", "list").stdout.splitlines()]
    assert [row[0] for row in rows[1:]] == ["", "*!"]


def test_a_project_is_counted_in_each_space(run: Run, memory_api: StubMemoryApi) -> None:
    counted = {
        "project": "my-project",
        "memories": 1_304,
        "chunks": 2_000,
        "spaces": [{"embedding_version": "m-768-1", "memories": 1_300, "chunks": 1_990}],
    }
    memory_api.on("GET", SPACES, Reply({"spaces": [space(), space("m-768-2")], "project": counted}))
    result = run("embeddings", "list", "--project", "my-project")
    assert memory_api.received[-1].params == {"project": "my-project"}
    lines = result.stdout.splitlines()
    assert [line.split("\t")[-2:] for line in lines[:3]] == [
        ["MEMORIES", "CHUNKS"],
        ["1,300", "1,990"],
        ["–", "–"],
    ]
    assert lines[3] == "my-project: 1,304 memories, 2,000 chunks"


def test_a_name_as_a_configuration_file_has_it_will_do(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", SPACES, Reply({"spaces": [space(provider="default/voyage-code")], "without_space": [WAITS]}))
    memory_api.on("POST", ACTIVATE, activated)
    assert run("embeddings", "activate", "Voyage_Code").exit_code == 0
    assert memory_api.bodies("POST", ACTIVATE) == [{"provider": "default/voyage-code", "force": False}]


def test_a_provider_without_a_space_is_answered_with_its_reason(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", SPACES, Reply({"spaces": [space()], "without_space": [WAITS]}))
    result = run("embeddings", "activate", "voyage-code")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: default/voyage-code has no space: SecretMissing\nhint: VOYAGE_API_KEY")


def test_an_active_backend_that_waits_is_told(run: Run, memory_api: StubMemoryApi) -> None:
    waits = "memory-layer.toml: default/b is to be active: only 3 of 100 chunks have a vector"
    memory_api.on("GET", SPACES, Reply({"spaces": [space(active=True)], "selection_waits": waits}))
    assert waits in run("embeddings", "list").stderr
