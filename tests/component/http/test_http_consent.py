"""Consent over HTTP: recorded, listed, withdrawn, and what the gate makes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fixtures.api import Api, refused
from fixtures.engine import World
from fixtures.waiting import until

PATH = "/admin/embedding-dimension-change"


def mock(dimensions: int, **spec: Any) -> dict[str, Any]:
    return {"type": "mock", **spec, "embedding": {"dimensions": dimensions}}


async def held(world: World, name: str = "memory", to: int = 128, **spec: Any) -> Any:
    """A Provider whose change waits for consent."""
    ref = world.cluster.apply(name, mock(64, **spec))
    await world.until_phase(ref, "Ready")
    world.cluster.apply(name, mock(to, **spec))
    await world.until_phase(ref, "Held")
    return ref


async def test_consent_sent_as_curl_sends_it_applies_the_change_and_tells_its_effect(world: World, api: Api) -> None:
    await world.stored(30)
    async with world.operator(), world.worker():
        pricing = {"inputCostPer1K": "0.0000001"}
        ref = await held(world, pricing=pricing)
        answer = await api.post(PATH, b'{"target_dim": 128}')
        assert answer.status_code == 200, answer.text
        document = answer.json()
        assert list(document) == [
            "status",
            "target_dim",
            "id",
            "expires_at",
            "matches_held_change",
            "effect",
            "provider",
        ]
        assert (document["status"], document["target_dim"]) == ("consent recorded", 128)
        assert document["provider"] == str(ref)
        assert document["matches_held_change"] is True
        effect = document["effect"]
        assert effect.pop("estimated_tokens") > 30
        cost = effect.pop("estimated_cost")
        assert float(cost) > 0
        assert "E" not in cost.upper()
        assert effect == {
            "from": 64,
            "to": 128,
            "vectors_discarded": 30,
            "chunks_to_embed": 30,
            "currency": "USD",
        }
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 128, "dimension 128 is applied")
        await world.until_phase(ref, "Ready")
        assert (await api.get(PATH)).json()["held"] == []


async def test_what_is_held_is_listed_with_its_effect_and_the_message_of_the_gate(world: World, api: Api) -> None:
    before = datetime.now(UTC)
    await world.stored(5)
    async with world.operator(), world.worker():
        ref = await held(world)
        [change] = (await api.get(PATH)).json()["held"]
        assert change["provider"] == str(ref)
        assert (change["from"], change["to"], change["vectors_discarded"]) == (64, 128, 5)
        assert change["estimated_cost"] is None
        assert change["message"] == world.cluster.condition(ref, "DimensionSettled").message
        assert before <= datetime.fromisoformat(change["since"]) <= datetime.now(UTC)


async def test_consent_to_what_is_not_held_is_recorded_and_says_that_it_matches_nothing(world: World, api: Api) -> None:
    await world.stored(5)
    async with world.operator(), world.worker():
        ref = await held(world)
        for body in ({"target_dim": 256}, {"target_dim": 128, "provider": "default/other"}):
            document = (await api.post(PATH, body)).json()
            assert (document["matches_held_change"], document["effect"]) == (False, None)
        markers = (await api.get(PATH)).json()["markers"]
        assert [(m["target_dim"], m["provider"], m["state"]) for m in markers] == [
            (128, "default/other", "valid"),
            (256, str(ref), "valid"),
        ]
        await until(
            lambda: "marker=256" in world.cluster.condition(ref, "DimensionSettled").message,
            "the message names the marker for 256",
        )
        assert await world.value("select count(*) from memory_vectors_1") == 5


async def test_consent_that_could_mean_several_providers_is_refused_and_names_them(world: World, api: Api) -> None:
    await world.stored(5)
    async with world.operator(), world.worker():
        first = await held(world, "first", model="a")
        second = await held(world, "second", model="b")
        problem = refused(await api.post(PATH, {"target_dim": 128}), 409, "ambiguous_provider")
        assert problem["providers"] == [str(first), str(second)]
        assert str(first) in problem["detail"]
        assert str(second) in problem["detail"]
        assert (await api.get(PATH)).json()["markers"] == []
        document = (await api.post(PATH, {"target_dim": 128, "provider": str(second)})).json()
        assert document["matches_held_change"] is True
        await until(
            lambda: world.cluster.statuses[second].embedding.applied_dimensions == 128,
            "dimension 128 is applied to the second Provider",
        )
        assert world.cluster.statuses[first].embedding.applied_dimensions == 64


async def test_consent_to_what_none_of_several_providers_is_held_at_is_refused_and_names_them(
    world: World, api: Api
) -> None:
    await world.stored(5)
    async with world.operator(), world.worker():
        await held(world, "first", model="a")
        second = world.cluster.apply("second", mock(64, model="b"))
        await world.until_phase(second, "Ready")
        problem = refused(await api.post(PATH, {"target_dim": 256}), 409, "ambiguous_provider")
        assert problem["providers"] == ["default/first", "default/second"]
        assert "default/first, default/second" in problem["detail"]
        assert "none is held at dimension 256" in problem["detail"]
        assert "provider" in problem["hint"]
        assert (await api.get(PATH)).json()["markers"] == []
        document = (await api.post(PATH, {"target_dim": 256, "provider": "default/second"})).json()
        assert (document["provider"], document["matches_held_change"]) == ("default/second", False)


async def test_consent_for_no_provider_at_all_asks_for_the_one_to_come(api: Api) -> None:
    problem = refused(await api.post(PATH, {"target_dim": 128}), 409, "no_provider")
    assert "provider" in problem["hint"]
    assert (await api.get(PATH)).json()["markers"] == []


async def test_a_marker_that_opens_a_held_change_names_its_provider(world: World, api: Api) -> None:
    await world.stored(5)
    async with world.operator(), world.worker():
        ref = await held(world)
        world.cluster.down = True  # nothing is applied meanwhile
        await api.post(PATH, {"target_dim": 128})
        [marker] = (await api.get(PATH)).json()["markers"]
        assert (marker["provider"], marker["created_by"]) == (str(ref), "local")
        world.cluster.down = False


@pytest.mark.parametrize(
    ("target", "limit"), [(0, 2000), (-1, 2000), (2001, 2000), (4000, 2000), (10**30, 2000), (-(10**30), 2000)]
)
async def test_a_dimension_that_no_index_could_serve_is_refused_in_the_words_of_the_contract(
    api: Api, target: int, limit: int
) -> None:
    problem = refused(await api.post(PATH, {"target_dim": target}), 400)
    assert problem["detail"] == f"target_dim must be between 1 and {limit}"


async def test_the_limit_is_4000_where_a_provider_asks_for_halfvec(world: World, api: Api) -> None:
    async with world.operator(), world.worker():
        spec = {"type": "mock", "embedding": {"dimensions": 64, "columnType": "halfvec"}}
        await world.until_phase(world.cluster.apply("half", spec), "Ready")
        assert (await api.post(PATH, {"target_dim": 4000})).status_code == 200
        problem = refused(await api.post(PATH, {"target_dim": 4001}), 400)
        assert problem["detail"] == "target_dim must be between 1 and 4000"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"target_dim":true}', "target_dim"),
        (b'{"target_dim":"128"}', "target_dim"),
        (b'{"target_dim":128.0}', "target_dim"),
        (b'{"target_dim":1e2}', "target_dim"),
        (b'{"target_dim":null}', "target_dim"),
        (b'{"target_dim":NaN}', "target_dim"),
        (b"{}", "target_dim"),
        (b'{"target_dim":128,"target_dim":256}', "target_dim"),
        (b'{"target_dim":128,"force":true}', "force"),
        (b'{"target_dim":128,"ttl_seconds":59}', "ttl_seconds"),
        (b'{"target_dim":128,"ttl_seconds":2592001}', "ttl_seconds"),
        (b'{"target_dim":128,"provider":"memory"}', "provider"),
        (b'{"target_dim":128,"provider":"a/b/c"}', "provider"),
        (b'{"target_dim":128,"provider":"a/b\\u0000"}', "provider"),
    ],
)
async def test_what_is_not_exactly_a_consent_is_refused_by_the_name_of_the_field(
    api: Api, body: bytes, field: str
) -> None:
    assert field in refused(await api.post(PATH, body), 400)["detail"]
    assert (await api.get(PATH)).json()["markers"] == []


async def test_consent_lasts_a_day_unless_said_otherwise(api: Api) -> None:
    coming = {"target_dim": 5, "provider": "default/coming"}
    for body, seconds in ((coming, 86_400), ({**coming, "ttl_seconds": 60}, 60)):
        before = datetime.now(UTC)
        document = (await api.post(PATH, body)).json()
        recorded = datetime.fromisoformat(document["expires_at"]) - timedelta(seconds=seconds)
        assert before <= recorded <= datetime.now(UTC)


async def test_a_marker_is_withdrawn_once_and_more_and_a_consumed_one_never(world: World, api: Api) -> None:
    await world.stored(5)
    async with world.operator(), world.worker():
        ref = await held(world)
        early = (await api.post(PATH, {"target_dim": 256})).json()["id"]
        for _ in range(2):
            assert (await api.delete(f"{PATH}/{early}")).status_code == 204
        used = (await api.post(PATH, {"target_dim": 128})).json()["id"]
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 128, "dimension 128 is applied")
        problem = refused(await api.delete(f"{PATH}/{used}"), 409, "marker_consumed")
        assert "consumed at" in problem["detail"]
        states = {marker["id"]: marker["state"] for marker in (await api.get(PATH)).json()["markers"]}
        assert states == {early: "withdrawn", used: "consumed"}


async def test_a_marker_that_is_not_there_cannot_be_withdrawn(api: Api) -> None:
    refused(await api.delete(f"{PATH}/12345"), 404, "not_found")
    for wrong in ("x", "0", "-1", "1.5", "9" * 30):
        assert "marker_id" in refused(await api.delete(f"{PATH}/{wrong}"), 400)["detail"]


async def test_the_history_tells_who_consented_to_what_and_from_where(api: Api) -> None:
    marker = (await api.post(PATH, {"target_dim": 768, "provider": "default/memory"})).json()["id"]
    await api.delete(f"{PATH}/{marker}")
    withdrawn, recorded = (await api.get("/activity")).json()["activities"]
    assert (recorded["kind"], recorded["actor"], recorded["origin"]) == ("consent", "local", "127.0.0.1")
    assert recorded["subject"] == "default/memory"
    assert recorded["detail"] == {"target_dim": 768, "id": marker, "matches": False}
    assert withdrawn["kind"] == "withdraw consent"
