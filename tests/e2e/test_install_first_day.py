"""The first day with the chart on a real node: install, remember, change the dimension, consent."""

from __future__ import annotations

import json

import pytest

from e2e.release import CONSENT, NAME, NAMESPACE, PROVIDER, SERVED, Release

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def declared(release: Release) -> Release:
    """The Provider is applied, and five memories are stored."""
    release.apply()
    release.poll(lambda: release.phase() == "Ready", "phase Ready")
    for number in range(5):
        release.add(f"memory number {number} of the first day")
    return release


def test_everything_is_ready_and_the_release_tests_itself(release: Release) -> None:
    pods = release.node.get("pods", "-n", NAMESPACE)["items"]
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods} == {
        *("operator", "api", "worker", "webhook", "postgresql"),
    }
    assert all(status["ready"] for pod in pods for status in pod["status"]["containerStatuses"])
    said = release.node.helm("test", NAME, "-n", NAMESPACE, "--timeout", "120s").stdout
    assert "Succeeded" in said


def test_a_declared_provider_sizes_the_column_and_memories_are_found(declared: Release) -> None:
    assert declared.listed()[:5] == [PROVIDER, "ollama", "nomic-embed-text", "768", "true"]
    column = "select format_type(atttypid, atttypmod) from pg_attribute a join pg_class c on c.oid = attrelid"
    types = declared.psql(
        f"{column} where c.relname like 'memory\\_vectors\\_%' and relkind = 'r' and attname in ('embedding', 'vector')"
    )
    assert "vector(768)" in types.splitlines()
    found = declared.call("POST", "/memory/query", {"query": "memory number 3 of the first day"}).json()
    assert found["diagnostics"]["semantic_status"] == "ok"
    assert found["results"][0]["text"] == "memory number 3 of the first day"


def test_an_edit_of_the_dimension_is_warned_of_and_held_until_somebody_consents(declared: Release) -> None:
    said = declared.edit(dimensions=512)
    assert "Warning: spec.embedding.dimensions" in said
    held = declared.condition("DimensionSettled", "ConsentRequired")
    assert held["message"].startswith(
        "memory: changing the embedding dimension to 512 would discard existing embeddings and requires one-shot"
    )
    assert declared.listed()[3:5] == ["768", "true"]
    assert "Held" in declared.listed()
    found = declared.call("POST", "/memory/query", {"query": "memory number 3 of the first day"}).json()
    assert found["diagnostics"]["semantic_status"] == "ok"

    assert declared.call("POST", CONSENT, {"target_dim": 512}, account=None).status == 401
    assert declared.call("POST", CONSENT, {"target_dim": 512}, account="agent").status == 403
    consented = _curl(declared, CONSENT, '{"target_dim": 512}')
    assert json.loads(consented)["matches_held_change"] is True
    declared.settled(512)
    declared.poll(lambda: declared.listed()[3:5] == ["512", "true"], "512 dimensions in kubectl get providers")
    found = declared.call("POST", "/memory/query", {"query": "memory number 3 of the first day"}).json()
    assert found["results"][0]["text"] == "memory number 3 of the first day"


def test_with_psql_and_the_documented_insert_a_held_change_is_applied_with_no_restart(declared: Release) -> None:
    pods = declared.pods("operator")
    declared.edit(dimensions=256)
    declared.condition("DimensionSettled", "ConsentRequired")
    declared.psql("insert into memory_embedding_dim_change_consent (target_dim) values (256)")
    declared.settled(256)
    consumed = "select count(consumed_at) from memory_embedding_dim_change_consent where target_dim = 256"
    assert declared.psql(consumed) == "1"
    assert declared.pods("operator") == pods


def test_without_a_webhook_an_edit_goes_through_at_once_and_the_operator_says_the_same(declared: Release) -> None:
    warned = declared.edit(dimensions=1024)
    assert "Warning: spec.embedding.dimensions" in warned
    declared.condition("DimensionSettled", "ConsentRequired")
    declared.edit(dimensions=256)
    declared.condition("DimensionSettled", "Settled")

    declared.node.kubectl("-n", NAMESPACE, "scale", f"deploy/{NAME}-webhook", "--replicas=0")
    try:
        # A pod that is told to end answers for some seconds more.
        declared.poll(lambda: not declared.pods("webhook", going=True), "no webhook pod")
        said = declared.edit(dimensions=1024)
        assert "dimensions" not in said
        held = declared.condition("DimensionSettled", "ConsentRequired")
        assert "1024" in held["message"]
    finally:
        declared.edit(dimensions=256)
        declared.node.kubectl("-n", NAMESPACE, "scale", f"deploy/{NAME}-webhook", "--replicas=2")
    declared.condition("DimensionSettled", "Settled")
    declared.all_ready()


def _curl(release: Release, path: str, body: str) -> str:
    """The consent as the documents give it, with a token from kubectl."""
    token = release.node.kubectl("-n", SERVED, "create", "token", "owner").stdout.strip()
    command = ["curl", "--silent", "--fail-with-body", "--max-time", "20", "-X", "POST"]
    command += ["-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json", "-d", body]
    return release.node.run(*command, f"http://{release.address()}{path}").stdout
