"""Projects, and the language of their words."""

from __future__ import annotations

from pydantic import Field

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
