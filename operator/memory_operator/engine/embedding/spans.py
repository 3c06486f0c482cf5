"""Spans about one space."""

from __future__ import annotations

from memory_operator import traces
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.spaces.spaces import Space


def space_span(name: str, space: Space, job: Job | None = None, **attributes: object) -> traces.Span:
    """A step for a space, and for a job where it is one of its steps; attributes as `traces.span` takes them."""
    return traces.span(
        name, provider=space.ref, embedding_version=space.embedding_version, job=job.id if job else None, **attributes
    )
