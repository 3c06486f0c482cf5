"""Events as they are sent, and the log line of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.ports.sources import ProviderEvent
from memory_operator.kube.client import open_api
from memory_operator.kube.events import send_events

REF = ProviderRef("agents", "memory")
SWITCHED = ProviderEvent("Normal", "SpaceSwitched", "b-64-2 has taken the place of a-64-1; dimension 64")
INVALID = ProviderEvent("Warning", "InvalidSpec", "spec.modle: no such field")


async def test_each_event_is_sent_once_and_is_one_log_line_that_names_its_provider(
    api_server: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="memory_operator")
    api_server.answers = [(201, {"kind": "Event"})]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        await send_events(api, REF, "1", [SWITCHED, INVALID])
    sent = [(method, path, body["reason"]) for method, path, _, body in api_server.requests]
    path = "/api/v1/namespaces/agents/events"
    assert sent == [("POST", path, "SpaceSwitched"), ("POST", path, "InvalidSpec")]
    lines = [record for record in caplog.records if record.name == "memory_operator.kube.events"]
    assert [(line.levelname, line.getMessage(), vars(line)["provider"]) for line in lines] == [
        ("INFO", f"agents/memory: SpaceSwitched: {SWITCHED.message}", "agents/memory"),
        ("WARNING", f"agents/memory: InvalidSpec: {INVALID.message}", "agents/memory"),
    ]


async def test_an_event_that_the_api_server_refuses_does_not_keep_the_next_from_being_sent(
    api_server: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api_server.answers = [(403, {"kind": "Status", "reason": "Forbidden"}), (201, {"kind": "Event"})]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        await send_events(api, REF, "1", [SWITCHED, INVALID])
    assert [body["reason"] for _, _, _, body in api_server.requests] == ["SpaceSwitched", "InvalidSpec"]
    assert "Event SpaceSwitched dropped" in caplog.text
