"""Two installations in one cluster, each with a store of its own: neither overwrites what the other says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures.crowd import requests_so_far
from fixtures.engine import World, open_world
from fixtures.kube import Namespace
from fixtures.kube_operator import operating
from fixtures.postgres import Server
from fixtures.waiting import until

NAME = "memory-embeddings"
GRACE_SECONDS = 2.0
EDITS = 4
LISTINGS = 6


@pytest.fixture
async def second(postgres_server: Server, template_database: str) -> AsyncIterator[World]:
    """Another store."""
    name = postgres_server.create(template_database)
    async with open_world(postgres_server.url(name, superuser=False)) as opened:
        yield opened
    postgres_server.drop(name)


@pytest.fixture
def beside(elsewhere: Namespace) -> Namespace:
    """The namespace of the other installation, which may see all Providers, as the first may."""
    elsewhere.control_plane.apply_rbac(elsewhere.name, everywhere=True)
    return elsewhere


@pytest.fixture
def third(elsewhere: Namespace, tmp_path: Path) -> Iterator[Namespace]:
    """A namespace that nobody serves."""
    other = Namespace(elsewhere.control_plane, tmp_path, f"{elsewhere.name}-third")
    other.control_plane.create_namespace(other.name)
    yield other
    other.control_plane.delete_namespace(other.name)


def live(namespace: Namespace) -> dict[str, Any]:
    path = f"/apis/omnia.altairalabs.ai/v1alpha1/namespaces/{namespace.name}/providers/{NAME}"
    return namespace.control_plane.request("GET", path).body


async def settled(namespace: Namespace, phase: str = "Ready") -> dict[str, Any]:
    """The Provider once a status stands that is about its current generation."""

    async def found() -> dict[str, Any] | None:
        there = await asyncio.to_thread(live, namespace)
        status = there.get("status", {})
        current = status.get("observedGeneration") == there["metadata"]["generation"]
        return there if current and status.get("phase") == phase else None

    provider: dict[str, Any] = await until(found, f"{phase} for the current generation")
    return provider


def writers(provider: dict[str, Any]) -> set[str]:
    """The installations that have written what the status is now."""
    return {
        each["manager"]
        for each in provider["metadata"]["managedFields"]
        if each["manager"].startswith("memory-operator")
    }


def events(namespace: Namespace) -> list[str]:
    return [each["reason"] for each in namespace.items("events")]


async def patches_in_listings(namespace: Namespace) -> int:
    """How many patches of a Provider come while the operators list some more times."""

    async def counted(verb: str) -> int:
        return (await asyncio.to_thread(requests_so_far, namespace.control_plane))[verb, "providers"]

    before, listings = await counted("PATCH"), await counted("LIST") + LISTINGS

    async def come() -> bool:
        return await counted("LIST") >= listings

    await until(come, f"{LISTINGS} listings more")
    return await counted("PATCH") - before


async def test_neither_says_not_served_where_the_other_serves(
    world: World, second: World, served: Namespace, beside: Namespace
) -> None:
    served.control_plane.apply_rbac(served.name, everywhere=True)
    for each in (world, second):
        each.settings = replace(each.settings, listing_seconds=1)
    async with (
        operating(world, served, grace_seconds=GRACE_SECONDS), world.worker(),
        operating(second, beside, grace_seconds=GRACE_SECONDS), second.worker(),
    ):  # fmt: skip
        for number in range(EDITS):
            for namespace in (served, beside):
                namespace.provider(embedding={"dimensions": 64, "limits": {"concurrency": number + 1}})
            for namespace in (served, beside):
                await settled(namespace)
        assert await patches_in_listings(served) == 0
        for namespace in (served, beside):
            assert writers(live(namespace)) == {f"memory-operator:{namespace.name}"}
            assert "NamespaceNotServed" not in events(namespace)


async def test_one_that_nobody_serves_is_told_so_by_one_of_them(
    world: World, second: World, served: Namespace, beside: Namespace, third: Namespace
) -> None:
    served.control_plane.apply_rbac(served.name, everywhere=True)
    third.provider()
    async with (
        operating(world, served, grace_seconds=GRACE_SECONDS),
        operating(second, beside, grace_seconds=GRACE_SECONDS),
    ):
        told = await settled(third, "Error")
    assert told["status"]["conditions"][0]["reason"] == "NamespaceNotServed"
    assert len(writers(told)) == 1


async def test_where_both_serve_the_first_keeps_the_status_and_the_other_says_so(
    world: World, second: World, served: Namespace, beside: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(served.let_in, beside)
    await world.stored(3)
    await second.stored(5)
    async with operating(world, served), world.worker():
        served.provider()
        await settled(served)
        async with operating(second, beside, served), second.worker():
            filled = "select coalesce(sum(n), 0) >= 5 from memory_embedding_counters where scope = 1"
            await until(lambda: second.value(filled), "the other has its vectors")
            for number in range(EDITS):
                served.provider(embedding={"dimensions": 64, "limits": {"concurrency": number + 1}})
                found = await settled(served)
                assert found["status"]["embedding"]["chunks"] == 3
                assert writers(found) == {f"memory-operator:{served.name}"}
            await until(lambda: "another installation of memory-operator serves" in caplog.text, "the other says so")
            assert caplog.text.count("another installation of memory-operator serves") == 1


async def test_where_the_first_is_gone_the_other_tells_of_the_next_edit(
    world: World, second: World, served: Namespace, beside: Namespace
) -> None:
    await asyncio.to_thread(served.let_in, beside)
    async with operating(world, served), world.worker():
        served.provider()
        await settled(served)
    async with operating(second, beside, served, grace_seconds=GRACE_SECONDS), second.worker():
        ready = "select coalesce(bool_or(status ->> 'phase' = 'Ready'), false) from memory_providers"
        await until(lambda: second.value(ready), "it is Ready for the other too")
        served.provider(embedding={"dimensions": 64, "limits": {"concurrency": 2}})
        assert f"memory-operator:{beside.name}" in writers(await settled(served))
