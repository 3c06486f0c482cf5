"""What the server says of two spaces side by side, and of a rehearsal, as far as it is shown."""

from __future__ import annotations

from memory_operator.client.server.reading import AnswerDocument


class SideDocument(AnswerDocument):
    """One of the two."""

    name: str
    provider: str
    model: str | None = None
    dimensions: int | None = None
    state: str
    input_cost_per_1k: str | None = None


class InCommonDocument(AnswerDocument):
    """Chunks that both have, and those that one has alone."""

    both: int
    only_first: int
    only_second: int


class DrawnDocument(AnswerDocument):
    """A question made of the words of a memory."""

    project: str
    query: str
    judged: tuple[str, ...]


class FoundDocument(AnswerDocument):
    """What one of the two found."""

    fused: tuple[str, ...]
    semantic: tuple[str, ...]
    whole: tuple[str, ...] | None = None
    embed_ms: float | None = None
    search_ms: float
    tokens: int
    index_recall: float | None = None


class ComparedQuestionDocument(AnswerDocument):
    """What both found."""

    first: FoundDocument
    second: FoundDocument
    missing: tuple[str, ...]


class ComparedDocument(AnswerDocument):
    """POST /v1/embeddings/compare."""

    first: SideDocument
    second: SideDocument
    in_common: InCommonDocument
    drawn: tuple[DrawnDocument, ...]
    answers: tuple[ComparedQuestionDocument, ...]


class RehearsalDocument(AnswerDocument):
    """A rehearsal."""

    name: str
    id: int
    provider: str
    model: str | None = None
    chunks: int
    embedded: int
    refused: int


class RehearsalsDocument(AnswerDocument):
    """GET /v1/embeddings/rehearsals."""

    rehearsals: tuple[RehearsalDocument, ...]


class RehearseDocument(AnswerDocument):
    """POST /v1/embeddings/rehearsals."""

    compared_with: str
    chunks: int
    projects: int
    estimated_tokens: int
    estimated_cost: str | None = None
    currency: str = "USD"
    estimated_seconds: int | None = None
    rehearsal: RehearsalDocument | None = None
