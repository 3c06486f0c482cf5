"""What an author says of a memory beside its text; carried whole from the request to the row and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

TextT = TypeVar("TextT")
ObjectT = TypeVar("ObjectT")


@dataclass(frozen=True)  # slots would not bear the call of an alias, which sets __orig_class__
class Attributes(Generic[TextT, ObjectT]):
    """Everything beside the text. `PlainAttributes` are as the author gave them, `SealedAttributes` as stored."""

    summary: TextT | None = None
    type: str | None = None
    tags: tuple[str, ...] = ()
    source: str | None = None
    importance: float | None = None
    """0…1, as the caller judges it; never computed here."""
    confidence: float | None = None
    """0…1, likewise."""
    metadata: ObjectT | None = None
    """Anything that JSON can hold; stored encrypted, returned as it was, not searched."""


PlainAttributes = Attributes[str, Mapping[str, Any]]
SealedAttributes = Attributes[bytes, bytes]
