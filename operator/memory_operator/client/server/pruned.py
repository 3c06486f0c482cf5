"""What a prune removed, or would remove, as the server tells it."""

from __future__ import annotations

from datetime import datetime

from memory_operator.client.server.reading import AnswerDocument


class PrunedSpaceDocument(AnswerDocument, size_bytes="bytes"):
    """A space that was removed, or would be."""

    embedding_version: str
    provider: str
    state: str
    vectors: int
    size_bytes: int
    kept_until: datetime | None = None


class PrunedDocument(AnswerDocument):
    """POST /v1/prune-embeddings."""

    dry_run: bool
    spaces: tuple[PrunedSpaceDocument, ...]
