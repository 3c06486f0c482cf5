"""What stands in a Provider's way: each says what to do, writes nothing, and goes away by itself with its cause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fixtures.engine import World, open_world
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.embedders import EmbedderPool
from memory_operator.engine.embedding.connector import Connector
from memory_operator.settings import CredentialAllowList
from vendor.script import Fault
from vendor.stub import StubVendor

KEY = "sk-right"


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64, api_key=KEY) as stub:
        yield stub


def openai(vendor: StubVendor, dimensions: int | None = 64, **spec: Any) -> dict[str, Any]:
    """A Provider of the stub vendor."""
    return {
        "type": "openai",
        "model": "model-a",
        "baseURL": vendor.base_url,
        "credential": {"secretRef": {"name": "key"}},
        "embedding": {"dimensions": dimensions} if dimensions else {},
        **spec,
    }


async def serving(world: World, vendor: StubVendor) -> ProviderRef:
    """A Provider whose space is full, active and reachable."""
    world.cluster.secrets[("default", "key")] = {"api-key": KEY}
    await world.stored(12)
    ref = world.cluster.apply("memory", openai(vendor))
    await world.until_phase(ref, "Ready")
    return ref


def reason(world: World, ref: ProviderRef, condition: str) -> str | None:
    found = world.cluster.condition(ref, condition)
    return found.reason if found and found.status == "False" else None


async def spaces(world: World) -> list[str]:
    return [
        row["embedding_version"] for row in await world.fetch("select embedding_version from memory_embedding_spaces")
    ]


async def still_serves(world: World, dimensions: int = 64) -> None:
    """The active space's own embedder still answers, from its own vendor and with its own key."""
    from memory_operator.store.spaces import spaces as stored

    async with world.store.connection() as conn:
        active = await stored.active(conn)
    assert active is not None
    embedder = await world.connector.embedder(active.config)
    answer = await embedder.embed(["still there?"], mode="query", timeout=5, dimensions=dimensions)
    assert answer.vectors.shape == (1, dimensions)
    assert np.isfinite(answer.vectors).all()


async def test_a_dimension_above_the_index_limit_is_refused_and_the_applied_space_serves(
    world: World, vendor: StubVendor
) -> None:
    async with world.operator(), world.worker():
        ref = await serving(world, vendor)
        world.cluster.apply("memory", openai(vendor, 3072))
        await until(
            lambda: reason(world, ref, "DimensionSettled") == "DimensionAboveLimit",
            "the dimension is told as above the limit",
        )
        message = world.cluster.condition(ref, "DimensionSettled").message
        assert "3072 is above 2000" in message
        assert "halfvec" in message
        assert await spaces(world) == ["model-a-64-1"]
        await still_serves(world)
        world.cluster.apply("memory", openai(vendor))
        await world.until_phase(ref, "Ready")


async def test_a_missing_secret_is_named_and_its_arrival_is_enough(world: World, vendor: StubVendor) -> None:
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", openai(vendor))
        await until(
            lambda: reason(world, ref, "CredentialResolved") == "SecretMissing", "the Secret is told as missing"
        )
        assert "default/key" in world.cluster.condition(ref, "CredentialResolved").message
        assert await spaces(world) == []
        assert vendor.count == 0
        world.cluster.secrets[("default", "key")] = {"OPENAI_API_KEY": KEY}
        await world.until_phase(ref, "Ready")


async def test_a_wrong_key_is_told_without_being_shown_and_never_replaces_one_that_works(
    world: World, vendor: StubVendor
) -> None:
    async with world.operator(), world.worker():
        ref = await serving(world, vendor)
        world.cluster.secrets[("default", "other")] = {"api-key": "sk-wrong"}
        world.cluster.apply("memory", openai(vendor, credential={"secretRef": {"name": "other"}}))
        await until(lambda: reason(world, ref, "Reachable") == "CredentialRefused", "the credential is told as refused")
        assert "sk-wrong" not in world.cluster.statuses[ref].model_dump_json()
        await still_serves(world)
        world.cluster.secrets[("default", "other")] = {"api-key": KEY}
        await world.until_phase(ref, "Ready")


async def test_a_vendor_that_is_down_holds_a_first_provider_back_until_it_is_up(
    world: World, vendor: StubVendor
) -> None:
    world.cluster.secrets[("default", "key")] = {"api-key": KEY}
    spec = openai(vendor)
    vendor.stop()
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", spec)
        await until(
            lambda: reason(world, ref, "Reachable") == "EmbedderUnreachable", "the embedder is told as unreachable"
        )
        assert world.phase(ref) == "Unavailable"
        assert await spaces(world) == []
        vendor.start()
        await world.until_phase(ref, "Ready")


async def test_a_vendor_that_hangs_is_given_up_on_and_nothing_is_written(world: World, vendor: StubVendor) -> None:
    async with world.operator(), world.worker():
        ref = await serving(world, vendor)
        vendor.fault = Fault(hold=True)
        world.cluster.apply("memory", openai(vendor, model="model-b"))
        await until(
            lambda: reason(world, ref, "Reachable") == "EmbedderUnreachable", "the embedder is told as unreachable"
        )
        assert await spaces(world) == ["model-a-64-1"]
        vendor.fault = None
        await until(
            lambda: world.cluster.statuses[ref].embedding.embedding_version == "model-b-64-2",
            "the space of the second model is the applied one",
        )
        await world.until_phase(ref, "Ready")


async def test_a_declared_dimension_that_the_model_does_not_return_writes_nothing(
    world: World, vendor: StubVendor
) -> None:
    world.cluster.secrets[("default", "key")] = {"api-key": KEY}
    vendor.fault = Fault(ignore_dimensions=True)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", openai(vendor, 96))
        await until(
            lambda: reason(world, ref, "DimensionSettled") == "DimensionMismatch",
            "the dimension is told as another than the model's",
        )
        message = world.cluster.condition(ref, "DimensionSettled").message
        assert "64 dimensions, not 96" in message
        assert "set spec.embedding.dimensions to 64" in message
        assert await spaces(world) == []


async def test_a_dimension_that_is_not_returned_after_consent_destroys_nothing(
    world: World, vendor: StubVendor
) -> None:
    async with world.operator(), world.worker():
        ref = await serving(world, vendor)
        vendor.fault = Fault(ignore_dimensions=True)
        world.cluster.apply("memory", openai(vendor, 96))
        await world.until_phase(ref, "Held")
        await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (96)")
        await until(
            lambda: reason(world, ref, "DimensionSettled") == "DimensionMismatch",
            "the dimension is told as another than the model's",
        )
        assert await world.value("select count(*) from memory_vectors_1") == 12
        assert await world.value("select consumed_at from memory_embedding_dim_change_consent") is None
        await still_serves(world)
        vendor.fault = None
        await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (96)")
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 96, "dimension 96 is applied")
        assert await world.value("select count(consumed_at) from memory_embedding_dim_change_consent") == 1


async def test_a_reply_of_the_wrong_length_in_a_fill_is_not_stored(world: World, vendor: StubVendor) -> None:
    async with world.operator(), world.worker():
        ref = await serving(world, vendor)
        vendor.fault = Fault(containing="memory number", length=1)
        world.cluster.apply("memory", openai(vendor, model="model-b"))
        await until(
            lambda: world.value("select count(*) = 12 from memory_embedding_quarantine"),
            "all twelve chunks are in quarantine",
        )
        assert await world.value("select count(*) from memory_vectors_2") == 0
        assert ref is not None


async def test_an_undeclared_dimension_is_asked_of_the_model(world: World, vendor: StubVendor) -> None:
    world.cluster.secrets[("default", "key")] = {"api-key": KEY}
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", openai(vendor, None))
        await world.until_phase(ref, "Ready")
        assert world.cluster.statuses[ref].embedding.applied_dimensions == 64


async def test_a_lookup_that_fails_leaves_everything_as_it_is(world: World, vendor: StubVendor) -> None:
    async with world.operator(), world.worker():
        ref = await serving(world, vendor)
        world.cluster.down = True
        for operator in world.cluster.operators:
            operator.listed_again()
            operator.enqueue(ref)
        await until(lambda: vendor.count, "the vendor is called")
        await still_serves(world)
        assert await world.value("select absent_since from memory_providers") is None
        world.cluster.down = False


async def test_a_type_that_is_not_built_says_which_ones_are(world: World) -> None:
    async with world.operator():
        ref = world.cluster.apply(
            "memory", {"type": "claude", "model": "haiku", "credential": {"secretRef": {"name": "key"}}}
        )
        await until(lambda: reason(world, ref, "Ready"), "the Provider has a Ready condition")
        condition = world.cluster.condition(ref, "Ready")
        assert condition.reason in ("UnsupportedType", "SecretMissing")
        assert condition.message


async def test_a_provider_elsewhere_is_told_so_and_never_called(world: World, vendor: StubVendor) -> None:
    async with world.operator():
        ref = world.cluster.apply("memory", openai(vendor), namespace="elsewhere")
        await until(lambda: reason(world, ref, "Ready") == "NamespaceNotServed", "the namespace is told as not served")
        assert vendor.count == 0


async def test_in_a_pod_the_operator_repeats_the_warnings_of_the_webhook(world: World, vendor: StubVendor) -> None:
    world.cluster.secrets[("default", "key")] = {"api-key": KEY}
    world.settings = replace(world.settings, in_pod=True)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", openai(vendor))
        await world.until_phase(ref, "Ready")
        warned = [event.message for _, event in world.cluster.events if event.reason == "SpecWarning"]
        assert len(warned) == 1
        assert warned[0].startswith("spec.baseURL")
        assert "loopback" in warned[0]


async def test_a_secret_of_ours_is_not_sent_to_anybody_whoever_names_it(database: str, vendor: StubVendor) -> None:
    async with open_world(database) as world:
        ours = CredentialAllowList(withheld_secrets=frozenset({"default/release-master-key"}))
        async with EmbedderPool() as pool:
            world.connector = Connector(pool, world.cluster.read_secret, ours, {})
            world.cluster.secrets[("default", "release-master-key")] = {"api-key": "the master key"}
            spec = openai(vendor, credential={"secretRef": {"name": "release-master-key", "key": "api-key"}})
            async with world.operator():
                ref = world.cluster.apply("memory", spec)
                await until(
                    lambda: reason(world, ref, "CredentialResolved") == "SecretMissing", "the Secret is told as missing"
                )
    assert vendor.count == 0
