"""What can be said of one project: how many memories it has. The rest is counted for the whole store."""

from __future__ import annotations

from typing import Any

from memory_operator.client.server import paths
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import ProjectDocument, StatsDocument
from memory_operator.client.session import Session
from memory_operator.client.terminal.format import number


def project_count(api: ApiClient, project: str | None) -> dict[str, Any]:
    """A part of an answer about a project; empty where none is named."""
    if project is None:
        return {}
    stats = read(StatsDocument, api.get(paths.STATS))
    return {"project": {"project": project, "memories": stats.memories_of(project)}}


def show_project_count(session: Session, counted: dict[str, Any]) -> None:
    """The same for people."""
    if counted:
        found = read(ProjectDocument, counted["project"])
        session.screen.fields([(f"memories of {found.project}", number(found.memories))])
        if not found.memories:
            session.screen.remark(f"there is no memory in project {found.project}")
