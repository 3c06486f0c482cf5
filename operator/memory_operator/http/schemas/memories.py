"""Memories: what is given to be stored and looked for, and what is answered."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue, model_validator

from memory_operator.engine.memories.answer import Result
from memory_operator.engine.memories.remember import Memory, ShownMemory
from memory_operator.engine.memories.version_write import EmbeddingStatus
from memory_operator.http.schemas.base import AnswerModel, Body, Money, Name
from memory_operator.memory.attributes import Attributes

_MAX_TEXT = 1 << 20

REMAINS = (
    "in the store the ids, times and authors of versions, and the project's name; outside of the tables sealed texts,"
    " words and vectors, until PostgreSQL vacuums and recycles its write-ahead log, and in backups"
)
"""What a purge does not reach."""

Share = Annotated[float, Field(ge=0, le=1)]

_BEGINNING = re.compile(r"[0-9A-Fa-f]{4,8}(-[-0-9A-Fa-f]{0,23})?")


def _is_beginning(text: str) -> str:
    if not _BEGINNING.fullmatch(text):
        raise ValueError("must be the beginning of an id, such as 3f2a or 3f2a91c0-77aa")
    return text


IdBeginning = Annotated[
    str, Field(json_schema_extra={"pattern": f"^{_BEGINNING.pattern}$"}), AfterValidator(_is_beginning)
]


def ids_beginning(text: str) -> tuple[UUID, UUID]:
    """The first and the last id that can begin like this."""
    digits = text.replace("-", "")
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


class AttributesBody(Body):
    """What is said of a memory beside its text."""

    summary: str | None = Field(default=None, max_length=20_000, description="A short form of the text.")
    type: Name | None = Field(default=None, description="A kind of memory, such as decision.")
    tags: list[Name] = Field(default_factory=list, max_length=64, description="Labels to filter by.")
    source: Name | None = Field(default=None, description="Where it comes from.")
    importance: Share | None = Field(default=None, description="0 to 1.")
    confidence: Share | None = Field(default=None, description="0 to 1.")
    metadata: dict[str, JsonValue] | None = Field(default=None, description="Anything else; stored encrypted.")

    def given(self) -> dict[str, Any]:
        """Those that the caller gave, by name in Attributes."""
        found = {name: getattr(self, name) for name in AttributesBody.model_fields if name in self.model_fields_set}
        return found | {"tags": tuple(self.tags)} if "tags" in found else found


class MemoryBody(AttributesBody):
    """A memory to store."""

    text: str = Field(min_length=1, max_length=_MAX_TEXT, description="What is to be remembered.")
    project: Name = Field(default="default", description="Namespace of memories inside the tenant.")


class ChangesBody(AttributesBody):
    """Fields of a memory to change; those left out stay. A new version is stored."""

    text: str = Field(default="", min_length=1, max_length=_MAX_TEXT, description="The new text.")

    @model_validator(mode="after")
    def _says_something(self) -> ChangesBody:
        if not self.model_fields_set:
            raise ValueError("name at least one field to change")
        return self


class AttributesAnswer(AnswerModel):
    """What is said of a memory beside its text."""

    summary: str | None
    type: str | None
    tags: tuple[str, ...]
    source: str | None
    importance: float | None
    confidence: float | None
    metadata: dict[str, Any] | None


class StoredAnswer(AnswerModel):
    """A version of a memory that was stored."""

    id: UUID
    project: str
    version_no: int
    embedding_version: str | None = Field(description="The active space; null while it lacks this memory's vectors.")
    embedding_status: EmbeddingStatus
    chunks: int
    tokens: int | None = Field(description="Input tokens paid for this write; null when unknown or still to come.")
    cost: Money | None
    created_at: datetime


class _VersionHead(AnswerModel):
    id: UUID
    project: str
    version_no: int
    current: bool
    tombstone: bool
    purged: bool
    text: str | None = Field(description="Null for a tombstone, and for what was purged.")


class VersionAnswer(AttributesAnswer, _VersionHead):
    """One version of a memory, as its author wrote it."""

    embedding_version: str | None = Field(description="The space that had its vectors at once when it was written.")
    tokens: int | None
    cost: Money | None
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, memory: Memory) -> VersionAnswer:
        """A version as the API shows it."""
        return cls.model_validate(flat(memory))


class MemoryAnswer(VersionAnswer):
    """The current version of a memory."""

    embedding_version: str | None = Field(description="The active space, where it has vectors of all chunks.")
    embedding_status: EmbeddingStatus
    chunks: int

    @classmethod
    def of_shown(cls, shown: ShownMemory) -> MemoryAnswer:
        """The current version, and whether the active space finds it."""
        status = {"embedding_version": shown.embedding_version, "embedding_status": shown.embedding_status}
        return cls.model_validate({**flat(shown.memory), **status, "chunks": shown.chunks})


class HistoryAnswer(AnswerModel):
    """Versions of a memory, newest first."""

    versions: list[VersionAnswer]
    next_before_version: int | None = Field(description="Give it as before_version for the next page.")


class MemoriesAnswer(AnswerModel):
    """Current memories, newest first."""

    memories: list[VersionAnswer]
    next_before: int | None = Field(description="Give it as `before` for the next page.")


class ErasedAnswer(AnswerModel):
    """What there was, and is no more."""

    versions: int
    chunks: int
    vectors: dict[str, int] = Field(description="By embedding version.")


class PurgedAnswer(AnswerModel):
    """The confirmation of a purge."""

    status: Literal["purged"] = "purged"
    id: UUID
    erased: ErasedAnswer
    remains: str = REMAINS


def flat(item: Memory | Result) -> dict[str, Any]:
    """A memory's own fields and its attributes, side by side as JSON has them."""
    own = {field.name: getattr(item, field.name) for field in fields(item) if field.name != "attributes"}
    return own | {field.name: getattr(item.attributes, field.name) for field in fields(Attributes)}
