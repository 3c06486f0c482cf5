"""The parts of the server's answers about projects that are shown to people."""

from __future__ import annotations

from memory_operator.client.server.reading import AnswerDocument


class InSpaceDocument(AnswerDocument):
    """How much of a project has a vector in a space."""

    embedding_version: str
    chunks: int
    memories: int


class ProjectCountsDocument(AnswerDocument):
    """How much of a project there is, and how much of it each space has."""

    project: str
    chunks: int
    memories: int
    spaces: tuple[InSpaceDocument, ...] = ()


class ProjectCoverageDocument(AnswerDocument):
    """What a project has in one space."""

    embedding_version: str
    provider: str
    state: str
    vectors: int
    coverage: float
    quarantined: int = 0
    pending: int = 0
    missing: int = 0


class ProjectStatsDocument(AnswerDocument):
    """GET /v1/projects/stats."""

    project: str
    tenant: str
    memories: int
    chunks: int
    outdated: int = 0
    rewriting: bool = False
    spaces: tuple[ProjectCoverageDocument, ...] = ()


class ProjectDocument(AnswerDocument):
    """A project and how many memories it has now."""

    project: str
    memories: int


class ProjectWordsDocument(AnswerDocument):
    """How a project's words are indexed; POST /v1/projects/language."""

    project: str
    language: str
    languages: tuple[str, ...] = ()
    rewriting: bool = False


class ProjectsWordsDocument(AnswerDocument):
    """GET /v1/projects, by name."""

    projects: tuple[ProjectWordsDocument, ...]


class StatsDocument(AnswerDocument):
    """GET /v1/stats."""

    projects: tuple[ProjectDocument, ...] = ()
