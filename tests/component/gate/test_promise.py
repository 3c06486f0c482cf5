"""The gate as a proof: random sequences of what people and bad luck do, and the promise after each step.

`make test-long` plays more and longer ones. MEMORY_PROMISE is "SEED:SEQUENCES:STEPS"; a failure prints its sequence.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fixtures.postgres import Server
from fixtures.promise import NAMES, Step, playing

SEED, SEQUENCES, STEPS = (int(part) for part in os.environ.get("MEMORY_PROMISE", "20261127:60:8").split(":"))

DIMENSIONS = st.sampled_from([8, 16, 32])
TEXTS = st.sampled_from(
    [f"the {thing} is {state}" for thing in ("gate", "door", "pump") for state in ("open", "shut", "old")]
)
EXPIRES = st.sampled_from(
    [
        "+24 hours",
        "+24 hours",
        "+24 hours",
        "+-1 hours",
        "+0 seconds",
        "infinity",
        "-infinity",
        "20000-01-01",
        "0001-01-01 BC",
    ]
)
CREATED = st.sampled_from(["now", "now", "now", "infinity", "-infinity", "1970-01-01"])


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


SPECS = st.builds(
    lambda model, embedding: {"type": "openai_compatible", "model": model, "embedding": embedding},
    st.sampled_from(["m", "m", "n"]),
    st.builds(
        _without_none,
        dimensions=DIMENSIONS,
        dimensionChange=st.sampled_from([None, None, "Shadow", "InPlace"]),
        activation=st.sampled_from([None, None, None, "Manual"]),
        documentPrefix=st.sampled_from([None, None, None, "d: "]),
        queryPrefix=st.sampled_from([None, None, "q: "]),
        columnType=st.sampled_from([None, None, None, "halfvec"]),
        batchSize=st.sampled_from([None, 2]),
    ),
)
PROVIDERS = st.sampled_from([None, None, *(f"default/{name}" for name in NAMES)])


def _step(kind: str, **values: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.builds(lambda found: Step(kind, found), st.fixed_dictionaries(values))


_NAME = st.sampled_from(NAMES)
_FLAG = st.booleans()
_PLACE = st.integers(0, 5)
_APPLY = _step("apply", name=_NAME, spec=SPECS)
_CONSENT = st.one_of(
    _step("consent_by_sql", target_dim=DIMENSIONS, provider=PROVIDERS, expires=EXPIRES, created=CREATED),
    _step("consent_by_http", target_dim=DIMENSIONS, provider=PROVIDERS),
)
STEP = st.one_of(
    _APPLY,
    _APPLY,
    _APPLY,
    _CONSENT,
    _CONSENT,
    _step("add", text=TEXTS),
    _step("add", text=TEXTS),
    _step("settle"),
    _step("settle"),
    _step("query", text=TEXTS),
    _step("swap", one=_NAME, other=_NAME),
    _step("rename", name=_NAME, to=_NAME),
    _step("recreate", name=_NAME, again=_FLAG),
    _step("delete", name=_NAME),
    _step("amend", place=_PLACE, text=TEXTS),
    _step("forget", place=_PLACE, purge=_FLAG),
    _step("activate", place=_PLACE, force=_FLAG),
    _step("deactivate"),
    _step("prune"),
    _step("prune"),
    _step("reembed", replace=_FLAG),
    _step("reindex"),
    _step("restart"),
    _step("operator_down"),
    _step("operator_up"),
    _step("cut_connections"),
    _step("kill_worker", after_ms=st.sampled_from([500, 1500, 2000, 2500])),
    _step("vendor_down"),
    _step("vendor_up"),
)
BEGIN = [
    Step("add", {"text": "the gate is open"}),
    Step("apply", {"name": "a", "spec": {"type": "openai_compatible", "model": "m", "embedding": {"dimensions": 16}}}),
    Step("settle"),
]
"""What a sequence stands on: one memory in one full space."""


async def _play(dsn: str, steps: list[Step]) -> None:
    async with playing(dsn) as play:
        try:
            for step in [*BEGIN, *steps]:
                await play.do(step)
            await play.heal()
        except BaseException as error:
            error.add_note(f"after step {play.number} of {[*BEGIN, *steps]}")
            raise


@pytest.mark.timeout(0)
@seed(SEED)
@settings(
    max_examples=SEQUENCES,
    deadline=None,
    database=None,
    print_blob=False,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(steps=st.lists(STEP, min_size=STEPS, max_size=STEPS))
def test_no_sequence_of_events_breaks_the_promise(
    postgres_server: Server, template_database: str, steps: list[Step]
) -> None:
    name = postgres_server.fresh_name()
    postgres_server.execute(f"create database {name} template {template_database} owner memory")
    try:
        asyncio.run(_play(postgres_server.url(name, superuser=False), steps))
    finally:
        postgres_server.drop(name)
