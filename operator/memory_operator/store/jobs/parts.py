"""A part of the store that a job is about: counted before anything is locked, by a run as by its dry run."""

from __future__ import annotations

from typing import NamedTuple

from memory_operator.store.db.pool import Conn
from memory_operator.store.jobs import missing
from memory_operator.store.spaces.vectors import Reach


class Part(NamedTuple):
    """What a job is about when it is not the whole store."""

    project_id: int | None
    chunks: int
    """How many chunks are to get a vector, counted before anything was locked."""
    max_rows: int | None = None
    bound: int = 0
    """The last one of so many chunks; without `max_rows` it counts for nothing."""

    @property
    def reach(self) -> Reach:
        """The chunks that a job of it may change."""
        return Reach(self.project_id, None if self.max_rows is None else self.bound)


async def part_of(
    conn: Conn, space_id: int, project_id: int | None, *, replace: bool, max_rows: int | None = None
) -> Part | None:
    """Count what a job of a project, or of so many chunks, would do, before anything is locked.

    None where the whole store is meant.
    """
    if project_id is None and max_rows is None:
        return None
    chunks, bound = await missing.count(conn, space_id, project_id, max_rows, have_too=replace)
    return Part(project_id, chunks, max_rows, bound)
