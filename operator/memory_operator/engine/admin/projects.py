"""One project as people see it: how much of it there is, and what each space has of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from memory_operator.engine.memories.prepare import VERSIONS
from memory_operator.errors import NotFound
from memory_operator.plan.coverage import coverage
from memory_operator.store.db.pool import Store
from memory_operator.store.jobs import projects
from memory_operator.store.jobs.projects import ProjectChunks, ProjectInSpace
from memory_operator.store.memories import counts, languages
from memory_operator.store.memories.tenants import KeyRing
from memory_operator.store.spaces import spaces
from memory_operator.store.spaces.spaces import ACTIVE_STATES, Space

NAMED = 20
"""Projects that are named where one is not known."""


@dataclass(frozen=True, slots=True)
class ProjectCoverage:
    """What a project has in one space."""

    space: Space
    counted: ProjectInSpace
    chunks: int

    @property
    def coverage(self) -> float:
        """Share of its chunks that have a vector."""
        return coverage(self.counted.vectors, self.chunks, self.counted.quarantined)

    @property
    def missing(self) -> int:
        """Chunks that have no vector, and that nobody is to make one for."""
        return max(0, self.chunks - self.counted.vectors - self.counted.quarantined - self.counted.pending)


@dataclass(frozen=True, slots=True)
class ProjectView:
    """One project."""

    project: str
    tenant: str
    memories: int
    counted: ProjectChunks
    rewriting: bool
    """Whether its words are still being indexed anew."""
    spaces: Sequence[ProjectCoverage]


class Projects:
    """Looks at projects. One for each event loop."""

    def __init__(self, store: Store, keys: KeyRing) -> None:
        self._store = store
        self._keys = keys

    async def view(self, tenant: str, project: str, namespaces: Collection[str]) -> ProjectView:
        """A project of a tenant, in the spaces of some namespaces that get vectors. Raises NotFound."""
        owner = await self._keys.known_tenant(self._store, tenant)
        project_id = await self._keys.known_project(self._store, owner, project) if owner else None
        async with self._store.connection() as conn:
            if project_id is None:
                there = sorted(await counts.memories(conn, tenant))
                known = ", ".join(there[:NAMED]) + (", …" if len(there) > NAMED else "")
                raise NotFound(
                    f"there is no project {project} of tenant {tenant}",
                    hint=f"this tenant has memories in: {known or 'no project'}; a token of another tenant sees others",
                )
            words = {each.project: each for each in await languages.projects(conn, tenant)}
            counted = await projects.chunks(conn, project_id, VERSIONS)
            shown = [
                ProjectCoverage(space, await projects.in_space(conn, project_id, space.id), counted.chunks)
                for space in await spaces.all_spaces(conn)
                if space.state in ACTIVE_STATES and space.ref.namespace in namespaces
            ]
            memories = await counts.live(conn, project_id)
        rewriting = project in words and words[project].rewriting
        return ProjectView(project, tenant, memories, counted, rewriting, shown)
