"""What a user gives to be remembered, and its way to what is stored: prepared, cut, sealed."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from memory_operator.errors import InvalidInput
from memory_operator.memory.attributes import Attributes, ObjectT, PlainAttributes, TextT
from memory_operator.memory.chunking import CHUNKER_VERSION, chunk
from memory_operator.memory.encryption import DataKey, Field, Place
from memory_operator.memory.languages import configuration_of
from memory_operator.memory.preprocess import PREPROCESSING_VERSION, preprocess, storable
from memory_operator.memory.search_terms import indexed
from memory_operator.store.memories.memories import NewChunk, NewVersion, Version

VERSIONS = (CHUNKER_VERSION, PREPROCESSING_VERSION)

_IN_A_THREAD_FROM_CHARS = 20_000
"""Longer texts take so long to prepare that the event loop would notice."""

T = TypeVar("T")

_LABEL_CHARS = 200
_MAX_TAGS = 64
_MAX_SUMMARY_CHARS = 20_000
_MAX_METADATA_CHARS = 65_536


@dataclass(frozen=True, slots=True)
class NewMemory:
    """What a user gives to be remembered."""

    text: str
    project: str = "default"
    attributes: PlainAttributes = field(default_factory=PlainAttributes)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A memory with its text cut into the pieces that are embedded, checked, not sealed yet."""

    memory: NewMemory
    texts: tuple[str, ...]
    hashes: tuple[bytes, ...]
    """Content hash of each text, under the tenant's key."""
    metadata: str | None
    """As JSON."""


async def prepare(memory: NewMemory, key: DataKey) -> Prepared:
    """Check a memory and cut its text. Raises InvalidInput."""
    _check(memory.attributes)
    metadata = _json(memory.attributes.metadata)

    def cut() -> Prepared:
        texts = tuple(chunk(preprocess(memory.text)))
        return Prepared(memory, texts, tuple(key.content_hash(text) for text in texts), metadata)

    return await in_a_thread_if_long(len(memory.text), cut)


async def seal(
    prepared: Prepared, key: DataKey, canonical_id: UUID, version_no: int, project_id: int, by: str
) -> tuple[NewVersion, list[NewChunk]]:
    """Encrypt a prepared memory for the place it will have."""
    memory = prepared.memory

    def sealed() -> tuple[NewVersion, list[NewChunk]]:
        def sealed_text(text: str | None, name: Field) -> bytes | None:
            return None if text is None else key.seal(storable(text), Place(canonical_id, version_no, name))

        version = NewVersion(
            canonical_id=canonical_id,
            version_no=version_no,
            project_id=project_id,
            created_by=by,
            input=sealed_text(memory.text, "input"),
            attributes=_with_texts(
                memory.attributes,
                sealed_text(memory.attributes.summary, "summary"),
                sealed_text(prepared.metadata, "metadata"),
            ),
        )
        chunks = [
            NewChunk(
                text=key.seal(text, Place(canonical_id, version_no, "chunk", ordinal)),
                content_hash=prepared.hashes[ordinal],
                indexed=indexed_text(text, ordinal, memory.attributes.tags, memory.attributes.summary),
                language=configuration_of(text),
            )
            for ordinal, text in enumerate(prepared.texts)
        ]
        return version, chunks

    return await in_a_thread_if_long(len(memory.text), sealed)


def opened(sealed: bytes | None, key: DataKey, place: Place) -> str | None:
    """A sealed text, where there is one. Raises Undecryptable."""
    return None if sealed is None else key.open(sealed, place)


def open_attributes(version: Version, key: DataKey) -> PlainAttributes:
    """The attributes of a stored version, as its author gave them. Raises Undecryptable."""
    sealed = version.attributes
    summary = opened(sealed.summary, key, Place(version.canonical_id, version.version_no, "summary"))
    metadata = opened(sealed.metadata, key, Place(version.canonical_id, version.version_no, "metadata"))
    return _with_texts(sealed, summary, None if metadata is None else json.loads(metadata))


def _with_texts(
    about: Attributes[Any, Any], summary: TextT | None, metadata: ObjectT | None
) -> Attributes[TextT, ObjectT]:
    """The same attributes with their texts sealed or opened."""
    return Attributes(summary, about.type, about.tags, about.source, about.importance, about.confidence, metadata)


def indexed_text(text: str, ordinal: int, tags: Sequence[str], summary: str | None) -> str:
    """What a chunk is found by.

    Tags find every chunk, the summary the first only: it is about the whole, and would else find all of it.
    """
    about = [] if summary is None or ordinal else [summary]
    return storable(indexed(text, [*tags, *about]).replace("\x00", " "))


def _json(metadata: Mapping[str, Any] | None) -> str | None:
    if metadata is None:
        return None
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput("metadata holds something that JSON cannot", hint="NaN is not JSON, for example") from error
    if len(text) > _MAX_METADATA_CHARS:
        raise InvalidInput(f"metadata has at most {_MAX_METADATA_CHARS} characters as JSON", hint="shorten it")
    return text


def _check(about: PlainAttributes) -> None:
    _check_labels("type", [] if about.type is None else [about.type])
    _check_labels("source", [] if about.source is None else [about.source])
    _check_labels("tags", about.tags)
    if len(about.tags) > _MAX_TAGS:
        raise InvalidInput(f"a memory has at most {_MAX_TAGS} tags", hint="leave some out")
    if about.summary is not None and len(about.summary) > _MAX_SUMMARY_CHARS:
        raise InvalidInput(f"a summary has at most {_MAX_SUMMARY_CHARS} characters", hint="shorten it")
    for name, value in (("importance", about.importance), ("confidence", about.confidence)):
        if value is not None and not 0 <= value <= 1:
            raise InvalidInput(f"{name} is a number from 0 to 1", hint=f"leave {name} out where it is not known")


def _check_labels(field: str, labels: Sequence[str]) -> None:
    for label in labels:
        if not 0 < len(label) <= _LABEL_CHARS or any(unicodedata.category(c) in ("Cc", "Cs") for c in label):
            raise InvalidInput(
                f"{field}: each has 1 to {_LABEL_CHARS} characters, none of them a control character",
                hint=f"correct {field}",
            )


async def in_a_thread_if_long(chars: int, work: Callable[[], T]) -> T:
    """Run what takes time with the length of a text without holding up the event loop."""
    return await asyncio.to_thread(work) if chars >= _IN_A_THREAD_FROM_CHARS else work()
