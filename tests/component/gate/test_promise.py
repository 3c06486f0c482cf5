"""The gate as a proof: random sequences of what people and bad luck do, and the promise after each step.

`make test-long` plays more and longer ones. MEMORY_PROMISE is "SEED:SEQUENCES:STEPS"; a failure prints its sequence.
MEMORY_PROMISE_PART, "1/4", plays a fourth of them, always the same, so that several processes share one seed.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st

from fixtures.postgres import Server
from fixtures.promise import NAMES, Step, playing

SEED, SEQUENCES, STEPS = (int(part) for part in os.environ.get("MEMORY_PROMISE", "20261127:45:8").split(":"))
PART, PARTS = (int(part) for part in os.environ.get("MEMORY_PROMISE_PART", "1/1").split("/"))

DIMENSIONS = st.sampled_from([8, 16, 32])
TEXTS = st.sampled_from(
    [f"the {thing} is {state}" for thing in ("gate", "door", "pump") for state in ("open", "shut", "old")]
)

FIELDS: dict[str, list[Any]] = {
    "model": ["m", "n"],
    "dialect": ["openai", "openai/", "ollama"],
    "headers": [None, {"x-team": "a"}, {"x-team": "b"}],
    "credential": [None, {"secretRef": {"name": "key"}}, {"secretRef": {"name": "other", "key": "api-key"}}],
    "defaults": [None, {"requestTimeout": "30s"}],
    "pricing": [None, {"inputCostPer1K": "0.02"}],
    "embedding.dimensions": [8, 16, 32, 8, 16, 32, None, 2001],
    "embedding.dimensionChange": [None, "Shadow", "InPlace"],
    "embedding.activation": [None, "Manual", "Measured", "Automatic"],
    "embedding.gate": [None, {"maxNdcgLoss": 0}, {"maxNdcgLoss": 1, "minRecall": 0, "questions": 20}],
    "embedding.documentPrefix": [None, "d: "],
    "embedding.queryPrefix": [None, "q: "],
    "embedding.columnType": [None, "halfvec"],
    "embedding.index": [None, "auto", "hnsw-halfvec", "none"],
    "embedding.hnsw": [None, {"m": 24}],
    "embedding.distance": [None, "l2", "dot"],
    "embedding.keepFor": [None, "0s", "1h"],
    "embedding.createEnabled": [None, True, False],
    "embedding.batchSize": [None, 1, 2],
    "embedding.limits": [None, {"concurrency": 1}, {"requestsPerMinute": 60000, "tokensPerMinute": 10**9}],
    "embedding.budget": [None, {"tokensPerDay": 10**9, "costPerJob": "1000"}],
    "embedding.caSecretRef": [None, {"name": "ca"}],
    "embedding.rerank": [None, {"model": "r", "timeout": "500ms"}, {"form": "TEI", "baseURL": "http://127.0.0.1:9"}],
    "colour": [None, "a field that there is not"],
    "platform": [None, {"type": "azure"}],
}
"""Every field that has to do with embedding, and some mistakes, with its values."""


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _spec(dialect: str | None, model: str, embedding: dict[str, Any]) -> dict[str, Any]:
    return _without_none(dialect=dialect, model=model, embedding=embedding)


SPECS = st.builds(
    _spec,
    st.sampled_from([None, None, None, "openai/", "ollama"]),
    st.sampled_from(["m", "m", "n"]),
    st.builds(
        _without_none,
        dimensions=DIMENSIONS,
        dimensionChange=st.sampled_from([None, None, "Shadow", "InPlace"]),
        activation=st.sampled_from([None, None, None, "Manual", "Measured"]),
        documentPrefix=st.sampled_from([None, None, None, "d: "]),
        queryPrefix=st.sampled_from([None, None, "q: "]),
        columnType=st.sampled_from([None, None, None, "halfvec"]),
        batchSize=st.sampled_from([None, 2]),
    ),
)
_OURS = [f"default/{name}" for name in NAMES]
_HELD_DIMENSIONS = st.sampled_from([8, 16, 32, 8, 16, 32, 1, 2001, 4000])


def _step(kind: str, **values: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.builds(lambda found: Step(kind, found), st.fixed_dictionaries(values))


def _edit(name: str, field: str, place: int) -> Step:
    return Step("edit", {"name": name, "field": field, "value": FIELDS[field][place % len(FIELDS[field])]})


_NAME = st.sampled_from(NAMES)
_FLAG = st.booleans()
_PLACE = st.integers(0, 5)
_EDIT = st.builds(_edit, _NAME, st.sampled_from([*FIELDS, *["embedding.dimensions"] * 8, "model"]), st.integers(0, 7))
_BY_SQL = st.builds(
    lambda values, ended: Step("consent_by_sql", {**values, **ended}),
    st.fixed_dictionaries(
        {
            "target_dim": _HELD_DIMENSIONS,
            "provider": st.sampled_from([None, None, None, *_OURS, "", "a", " default/a", "default/gone", "ü" * 999]),
            "expires": st.sampled_from(
                [
                    *["+24 hours"] * 6,
                    *("+1 hours", "+-1 hours", "+0 seconds", "infinity", "-infinity"),
                    *("20000-01-01", "294276-12-31", "0001-01-01 BC"),
                ]
            ),
            "created": st.sampled_from([*["now"] * 5, "infinity", "-infinity", "1970-01-01", "4713-01-01 BC"]),
        }
    ),
    st.sampled_from(
        [
            *[{}] * 8,
            {"by": "", "consumed": "-infinity"},
            {"by": "o'hara\n", "withdrawn": "infinity"},
            {"consumed": "20000-01-01", "withdrawn": "1970-01-01"},
        ]
    ),
)
_BY_HTTP = _step(
    "consent_by_http",
    target_dim=st.sampled_from([8, 16, 32, 8, 16, 32, 0, 2001, 5000]),
    provider=st.sampled_from([None, None, *_OURS, "default/gone"]),
    ttl=st.sampled_from([None, 60, 2592000]),
)
_OF_PROVIDERS = st.one_of(
    _step("apply", name=_NAME, spec=SPECS),
    _step("apply", name=_NAME, spec=SPECS),
    _EDIT,
    _EDIT,
    _EDIT,
    _step("change_places", names=st.lists(_NAME, min_size=2, max_size=3, unique=True)),
    _step("copy", name=_NAME, to=_NAME),
    _step("rename", name=_NAME, to=_NAME),
    _step("recreate", name=_NAME, dimensions=st.sampled_from([None, None, 8, 16, 32])),
    _step("delete", name=_NAME),
    _step("other_role", name=_NAME),
    _step("api_server_clock", hours=st.sampled_from([-5, 0, 4])),
)
_TO_HELD = _step(
    "consent_to_held", place=_PLACE, expires=st.sampled_from([None, None, "+24 hours", "+1 hours", "+-1 hours"])
)
_OF_CONSENT = st.one_of(
    _TO_HELD,
    _TO_HELD,
    _BY_SQL,
    _BY_SQL,
    _BY_HTTP,
    _step("withdraw", place=_PLACE),
)
_OF_MEMORIES = st.one_of(
    _step("add", text=TEXTS),
    _step("add", text=TEXTS),
    _step("amend", place=_PLACE, text=TEXTS),
    _step("forget", place=_PLACE, purge=_FLAG),
    _step("query", text=TEXTS),
    _step("query", text=TEXTS),
)
_OF_SPACES = st.one_of(
    _step("activate", place=_PLACE, force=_FLAG),
    _step("go_back", place=_PLACE),
    _step("keep_is_over"),
    _step("deactivate"),
    _step("prune"),
    _step("prune"),
    _step("reembed", replace=_FLAG),
    _step("compare", place=_PLACE, text=TEXTS),
    _step("rehearse", name=_NAME, model=st.sampled_from(["m", "n", "o"]), drops=_FLAG),
    _step("reindex"),
)
_OF_FATE = st.one_of(
    _step("restart"),
    _step("operator_down"),
    _step("operator_up"),
    _step("cut_connections"),
    _step("crash"),
    _step("kill_worker", after_ms=st.sampled_from([500, 1500, 2000, 2500])),
    _step("vendor_down"),
    _step("vendor_up"),
)
STEP = st.one_of(
    *[_OF_PROVIDERS] * 4, *[_OF_CONSENT] * 2, *[_OF_MEMORIES] * 2, *[_OF_SPACES] * 2, _OF_FATE, *[_step("settle")] * 2
)
_MOSTLY_A = st.sampled_from(["a", *NAMES])


def _dimensions(name: str, dimensions: int) -> Step:
    return Step("edit", {"name": name, "field": "embedding.dimensions", "value": dimensions})


def _consented(name: str, dimensions: int, consent: Step, rest: bool) -> list[Step]:
    return [_dimensions(name, dimensions), *[SETTLE] * rest, consent, SETTLE]


def _left_and_wanted_again(name: str, first: int, second: int, consent: Step) -> list[Step]:
    return [VENDOR_DOWN, _dimensions(name, first), consent, *(_dimensions(name, n) for n in (second, first)), VENDOR_UP]


def _of_two(one: str, other: str, then: Step) -> list[Step]:
    return [Step("copy", {"name": one, "to": other}), SETTLE, then]


def _left_behind(name: str, then: Step) -> list[Step]:
    models = [Step("edit", {"name": name, "field": "model", "value": model}) for model in ("n", "m")]
    return [models[0], SETTLE, VENDOR_DOWN, models[1], then, VENDOR_UP]


def _there_and_back(name: str, then: Step) -> list[Step]:
    return [Step("edit", {"name": name, "field": "model", "value": "n"}), SETTLE, then, Step("go_back", {"place": 0})]


SETTLE, VENDOR_DOWN, VENDOR_UP = Step("settle"), Step("vendor_down"), Step("vendor_up")
SCENE = st.one_of(
    *[STEP.map(lambda step: [step])] * 5,
    st.builds(_consented, _MOSTLY_A, DIMENSIONS, _TO_HELD, _FLAG),
    st.builds(_consented, _MOSTLY_A, DIMENSIONS, _TO_HELD, _FLAG),
    st.builds(_left_and_wanted_again, _MOSTLY_A, DIMENSIONS, DIMENSIONS, _TO_HELD),
    st.builds(_of_two, _MOSTLY_A, _NAME, _OF_PROVIDERS),
    st.builds(_left_behind, _MOSTLY_A, _OF_SPACES),
    st.builds(_there_and_back, _MOSTLY_A, st.one_of(_OF_MEMORIES, _OF_SPACES, _OF_FATE)),
)
"""One step, or a few that only do something together."""
SEQUENCES_OF_STEPS = st.lists(SCENE, min_size=STEPS, max_size=STEPS).map(
    lambda scenes: [step for scene in scenes for step in scene][:STEPS]
)
HOURS = st.sampled_from([0, 0, 0, -2, 3])
"""How far the database's clock is ahead of ours."""

BEGIN = [
    Step("add", {"text": "the gate is open"}),
    Step("apply", {"name": "a", "spec": {"model": "m", "embedding": {"dimensions": 16}}}),
    Step("settle"),
]
"""What a sequence stands on: one memory in one full space."""


def _create_enabled(*, value: bool) -> Step:
    return Step("edit", {"name": "a", "field": "embedding.createEnabled", "value": value})


_MEASURED = Step("edit", {"name": "a", "field": "embedding.activation", "value": "Measured"})
_BY_PSQL = Step("consent_to_held", {"place": 0, "expires": "+24 hours"})
IN_ADVANCE = [
    (0, [*_consented("a", 32, Step("consent_to_held", {"place": 0, "expires": None}), True)]),
    (3, [*_consented("a", 32, Step("consent_to_held", {"place": 0, "expires": "+-1 hours"}), True)]),
    (-2, [*_consented("a", 32, Step("consent_to_held", {"place": 0, "expires": "+1 hours"}), True)]),
    (0, [*_left_and_wanted_again("a", 32, 8, Step("consent_to_held", {"place": 0, "expires": None})), SETTLE]),
    (0, [_dimensions("a", 32), SETTLE, _dimensions("a", 16), SETTLE]),
    (0, [_dimensions("a", 32), SETTLE, VENDOR_DOWN, _BY_PSQL, Step("forget", {"place": 0, "purge": True}), VENDOR_UP]),
    (0, [*_of_two("a", "b", Step("delete", {"name": "a"})), SETTLE]),
    (0, [*_left_behind("a", Step("prune"))]),
    (0, [*_there_and_back("a", BEGIN[0])[:2], BEGIN[0]]),
    (0, [*_there_and_back("a", BEGIN[0]), BEGIN[0], SETTLE, Step("query", {"text": "the gate is open"})]),
    (3, [*_there_and_back("a", BEGIN[0]), Step("edit", {"name": "a", "field": "model", "value": "o"}), SETTLE]),
    (0, [*_there_and_back("a", Step("keep_is_over")), BEGIN[0], Step("go_back", {"place": 0}), SETTLE]),
    (0, [_MEASURED, *_there_and_back("a", Step("compare", {"place": 0, "text": "the gate is open"})), SETTLE]),
    (0, [Step("rehearse", {"name": "a", "model": "n", "drops": False}), BEGIN[0], SETTLE]),
    (0, [_create_enabled(value=False), SETTLE, BEGIN[0], _create_enabled(value=True), SETTLE]),
]
"""What is always played: the shortest sequences that a broken gate is noticed by."""


def in_advance(test: Any) -> Any:
    """Play these before the random ones."""
    for hours, steps in reversed(IN_ADVANCE):
        test = example(hours=hours, steps=steps)(test)
    return test


async def _play(dsn: str, hours: int, steps: list[Step]) -> None:
    async with playing(dsn, hours) as play:
        try:
            for step in [*BEGIN, *steps]:
                await play.do(step)
            await play.heal()
        except BaseException as error:
            error.add_note(f"after step {play.promise.number} of {[*BEGIN, *steps]}, {hours} hours ahead")
            raise


@pytest.mark.timeout(0)
@seed(SEED)
@settings(
    max_examples=SEQUENCES,
    deadline=None,
    database=None,
    print_blob=False,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@in_advance
@given(hours=HOURS, steps=SEQUENCES_OF_STEPS)
def test_no_sequence_of_events_breaks_the_promise(
    postgres_server: Server, template_database: str, hours: int, steps: list[Step]
) -> None:
    if zlib.crc32(repr((hours, steps)).encode()) % PARTS != PART - 1:
        return
    name = postgres_server.create(template_database)
    try:
        asyncio.run(_play(postgres_server.url(name, superuser=False), hours, steps))
    finally:
        postgres_server.drop(name)
