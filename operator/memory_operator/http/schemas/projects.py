"""Projects, and the language of their words."""

from __future__ import annotations

from pydantic import Field

from memory_operator.engine.admin.projects import ProjectCoverage, ProjectView
from memory_operator.http.schemas.base import AnswerModel, Body, Name

_LANGUAGE = "`auto`, or one of PostgreSQL's text search configurations for all memories of the project."


class LanguageBody(Body):
    """How the words of a project are to be indexed."""

    project: Name = Field(default="default", description="Made if it is not there yet.")
    language: Name = Field(description=_LANGUAGE)


class ProjectWordsAnswer(AnswerModel):
    """How the words of a project's memories are indexed."""

    project: str
    language: str = Field(description=_LANGUAGE)
    languages: list[str] = Field(description="Configurations that memories are indexed with, as far as they are known.")
    rewriting: bool = Field(description="Whether stored memories are still looked at again.")


class ProjectsAnswer(AnswerModel):
    """The projects of the caller's tenant, by name."""

    projects: list[ProjectWordsAnswer]


class ProjectCoverageAnswer(AnswerModel):
    """What a project has in one space."""

    embedding_version: str
    provider: str
    state: str
    vectors: int
    coverage: float = Field(description="Vectors ÷ (chunks − quarantined).")
    quarantined: int
    pending: int = Field(description="Chunks that wait for the embedder; their vectors are made by themselves.")
    missing: int = Field(description="Chunks that have no vector, and that no add and no quarantine accounts for.")

    @classmethod
    def of(cls, found: ProjectCoverage) -> ProjectCoverageAnswer:
        """One space."""
        return cls(
            embedding_version=found.space.embedding_version,
            provider=str(found.space.ref),
            state=found.space.state,
            vectors=found.counted.vectors,
            coverage=found.coverage,
            quarantined=found.counted.quarantined,
            pending=found.counted.pending,
            missing=found.missing,
        )


class ProjectStatsAnswer(AnswerModel):
    """One project of the caller's tenant."""

    project: str
    tenant: str
    memories: int
    chunks: int
    outdated: int = Field(description="Memories that were cut by other rules than the present ones.")
    rewriting: bool = Field(description="Whether its words are still being indexed anew.")
    spaces: list[ProjectCoverageAnswer] = Field(description="Those that get vectors, and that the caller may look at.")

    @classmethod
    def of(cls, view: ProjectView) -> ProjectStatsAnswer:
        """One project."""
        return cls(
            project=view.project,
            tenant=view.tenant,
            memories=view.memories,
            chunks=view.counted.chunks,
            outdated=view.counted.outdated,
            rewriting=view.rewriting,
            spaces=[ProjectCoverageAnswer.of(each) for each in view.spaces],
        )
