"""The operator on a real API server and a real database: what somebody with kubectl and psql sees."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fixtures.engine import World
from fixtures.kube import Namespace
from fixtures.kube_operator import operating
from fixtures.waiting import until

NAME = "memory-embeddings"


async def status_of(namespace: Namespace, name: str = NAME) -> dict[str, Any]:
    live = await asyncio.to_thread(namespace.get, "provider", name)
    found: dict[str, Any] = live.get("status", {})
    return found


async def until_phase(namespace: Namespace, phase: str) -> dict[str, Any]:
    async def is_there() -> dict[str, Any] | None:
        status = await status_of(namespace)
        return status if status.get("phase") == phase else None

    found: dict[str, Any] = await until(is_there, f"phase {phase}")
    return found


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in status["conditions"] if each["type"] == kind)
    return found


def reasons(events: Sequence[dict[str, Any]]) -> list[str]:
    return [each["reason"] for each in events]


async def test_a_provider_becomes_ready_an_edit_is_held_and_an_insert_applies_it(
    world: World, served: Namespace
) -> None:
    await world.stored(3)
    async with operating(world, served), world.worker():
        served.provider()
        ready = await until_phase(served, "Ready")
        assert ready["embedding"]["appliedDimensions"] == 64
        assert condition(ready, "Active")["status"] == "True"
        assert ready["embedding"]["vectors"] == 3

        served.provider(embedding={"dimensions": 32})
        held = await until_phase(served, "Held")
        assert condition(held, "DimensionSettled")["reason"] == "ConsentRequired"
        assert held["embedding"]["desiredDimensions"] == 32
        assert held["observedGeneration"] == 2
        await until(lambda: "ConsentRequired" in reasons(served.items("events")), "an Event says that it is held")
        assert reasons(served.items("events")).count("ConsentRequired") == 1

        await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (32)")
        again = await until_phase(served, "Ready")
        assert again["embedding"]["appliedDimensions"] == 32
        live = served.get("provider", NAME)
        assert live["metadata"].get("finalizers") is None
        assert live["metadata"]["generation"] == 2


async def test_a_provider_in_another_namespace_is_told_that_it_is_not_served(
    world: World, served: Namespace, elsewhere: Namespace
) -> None:
    served.control_plane.apply_rbac(served.name, everywhere=True)
    elsewhere.provider()
    async with operating(world, served, grace_seconds=1):
        status = await until_phase(elsewhere, "Error")
        assert condition(status, "Ready")["reason"] == "NamespaceNotServed"
        assert reasons(elsewhere.items("events")) == ["NamespaceNotServed"]


async def test_a_served_namespace_whose_role_is_missing_is_named_and_served_once_it_is_given(
    world: World, served: Namespace, elsewhere: Namespace
) -> None:
    world.settings = replace(world.settings, listing_seconds=1)
    served.provider()
    elsewhere.provider(model="another")
    async with operating(world, served, elsewhere) as operator, world.worker():
        await until_phase(served, "Ready")
        reason = operator.not_ready() or ""
        assert reason.startswith(f"memory: namespace {elsewhere.name}: Providers cannot be listed")
        assert "needs list on providers" in reason
        served.provider(model="edited")
        edited = "select count(*) from memory_embedding_spaces where embedding_version like '%edited%'"
        await until(lambda: world.value(edited), "an edit beside it is acted on")
        await asyncio.to_thread(served.kubectl, "delete", "provider", NAME, "--timeout=10s")
        gone = "select count(*) from memory_activity where kind = 'orphan'"
        await until(lambda: world.value(gone), "an absence beside it is noticed")
        assert await world.value("select count(*) from memory_providers where namespace = $1", elsewhere.name) == 0
        await asyncio.to_thread(elsewhere.let_in, served)
        await until_phase(elsewhere, "Ready")
        await until(lambda: operator.not_ready() is None, "the operator is ready")


async def test_a_secret_that_may_not_be_read_is_told_with_the_permission_that_is_missing(
    world: World, served: Namespace
) -> None:
    served.control_plane.kubectl("-n", served.name, "create", "secret", "generic", "key", "--from-literal=api-key=hush")
    rule = '[{"op": "remove", "path": "/rules/3"}]'
    served.kubectl("patch", "role", "memory-operator", "--type=json", "-p", rule)
    async with operating(world, served):
        served.provider(type="openai", model="text-embedding-3-small", credential={"secretRef": {"name": "key"}})
        status = await until(lambda: _conditions_of(served), "conditions are written")
        resolved = condition(status, "CredentialResolved")
    assert resolved["status"] == "False"
    assert "needs get on secrets" in resolved["message"]
    assert "hush" not in str(status)


async def _conditions_of(namespace: Namespace) -> dict[str, Any] | None:
    status = await status_of(namespace)
    return status if status.get("conditions") else None


async def test_a_provider_that_is_deleted_is_noticed_and_one_made_again_attaches_to_its_space(
    world: World, served: Namespace
) -> None:
    async with operating(world, served), world.worker():
        served.provider()
        before = await until_phase(served, "Ready")
        await asyncio.to_thread(served.kubectl, "delete", "provider", NAME, "--timeout=10s")
        orphaned = "select count(*) from memory_embedding_spaces where state = 'orphaned'"
        await until(lambda: world.value(orphaned), "its space is orphaned")
        served.provider()
        after = await until_phase(served, "Ready")
    assert after["embedding"]["embeddingVersion"] == before["embedding"]["embeddingVersion"]
