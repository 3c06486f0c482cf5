"""Whose status stands where several installations look at one Provider."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memory_operator.contract.resource import STATUS_ANNOTATION, ProviderRef
from memory_operator.kube.installations import STANDS_SECONDS, Installation

REF = ProviderRef("agents", "memory")
OURS, THEIRS = "memory-operator:a/memory", "memory-operator:b/memory"


def live(*writers: tuple[str, float], reason: str = "Ready", generation: int = 2) -> dict[str, Any]:
    """A Provider whose status these wrote, so many seconds ago each."""
    fields = [
        {
            "manager": name,
            "operation": "Update",
            "subresource": "status",
            "time": (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        for name, seconds in writers
    ]
    fields.append({"manager": "kubectl", "operation": "Update", "time": "2026-01-01T00:00:00Z"})
    metadata = {"uid": "1", "generation": generation, "managedFields": fields}
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "reason": reason}]}}


async def leaves(found: dict[str, Any], *, served: bool, seen: int = 2, grace: float = 0.0) -> float | None:
    return Installation("a/memory", grace_seconds=grace).leaves(REF, found, seen, served=served)


@pytest.mark.parametrize("served", [True, False])
async def test_our_own_status_is_ours_to_write(served: bool) -> None:
    assert await leaves(live((THEIRS, 60), (OURS, 5)), served=served) is None


async def test_a_status_of_another_that_serves_it_too_stands_for_an_hour_since_its_last_write() -> None:
    assert await leaves(live((OURS, 60), (THEIRS, 5)), served=True) == pytest.approx(STANDS_SECONDS - 5, abs=5)
    assert await leaves(live((THEIRS, STANDS_SECONDS + 5)), served=True) is None


@pytest.mark.parametrize(
    "found",
    [live(), live(("memory-operator", 5)), live((THEIRS, 5), reason="NamespaceNotServed")],
    ids=["nobody's", "of release 0.1", "of who does not serve it"],
)
async def test_where_we_serve_other_statuses_are_replaced(found: dict[str, Any]) -> None:
    assert await leaves(found, served=True) is None


async def test_elsewhere_what_another_says_of_the_current_generation_stands() -> None:
    assert await leaves(live((THEIRS, STANDS_SECONDS + 5)), served=False) == STANDS_SECONDS
    assert await leaves(live(("memory-operator", 5)), served=False) == STANDS_SECONDS


@pytest.mark.parametrize("served", [True, False])
async def test_another_has_some_time_to_say_something_about_an_edit(served: bool) -> None:
    edited = live((THEIRS, 60))
    assert await leaves(edited, served=served, seen=1, grace=30) == pytest.approx(30, abs=1)
    assert await leaves(edited, served=served, seen=1) is None


async def test_elsewhere_another_has_some_time_to_say_something_about_a_new_provider() -> None:
    ours = Installation("a/memory", grace_seconds=30)
    assert ours.leaves(REF, live(), None, served=False) == pytest.approx(30, abs=1)
    assert ours.leaves(REF, live(), None, served=False) == pytest.approx(30, abs=1), "counted from the first look"
    assert await leaves(live(), served=False) is None


async def test_an_annotation_tells_who_wrote_where_the_status_has_no_room() -> None:
    found = live()
    annotations = {"f:metadata": {"f:annotations": {f"f:{STATUS_ANNOTATION}": {}}}}
    found["metadata"]["managedFields"].append(
        {"manager": THEIRS, "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": annotations}
    )
    assert await leaves(found, served=False) == STANDS_SECONDS


async def test_a_long_name_makes_a_manager_that_the_api_server_takes() -> None:
    assert len(Installation("x" * 200).manager) == 128
