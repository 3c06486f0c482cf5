"""What can be said of one project: how many memories it has. The rest is counted for the whole store."""

from __future__ import annotations

from typing import Any

from memory_operator.client.server import paths
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.project_schemas import StatsDocument
from memory_operator.client.server.reading import read
from memory_operator.client.terminal.format import number


def project_count(api: ApiClient, project: str | None) -> dict[str, Any]:
    """A part of an answer about a project; empty where none is named."""
    if project is None:
        return {}
    stats = read(StatsDocument, api.get(paths.STATS))
    memories = next((one.memories for one in stats.projects if one.project == project), 0)
    return {"project": {"project": project, "memories": memories}}


def project_fields(counted: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for people."""
    found = counted.get("project")
    return [(f"memories of {found['project']}", number(found["memories"]))] if found else []
