"""The two that are compared: a space or a rehearsal each, what they are asked, and what each of them found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from memory_operator.contract.resource import ProviderRef
from memory_operator.errors import Conflict, MemoryOperatorError
from memory_operator.plan.space import SpaceConfig
from memory_operator.store.db.pool import Conn
from memory_operator.store.memories.comparing import InCommon, Pair, VectorSet
from memory_operator.store.memories.tenants import Tenant
from memory_operator.store.spaces import rehearsals, spaces
from memory_operator.store.spaces.rehearsals import Rehearsal
from memory_operator.store.spaces.spaces import Space

_REHEARSAL = re.compile(r"rehearsal-(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared."""

    name: str
    space: Space
    """The space itself, or the one whose vendor and credential a rehearsal uses."""
    rehearsal: Rehearsal | None = None

    @property
    def config(self) -> SpaceConfig:
        """How questions are embedded for it."""
        return self.rehearsal.config if self.rehearsal else self.space.config

    @property
    def ref(self) -> ProviderRef:
        """Its Provider."""
        return self.space.ref

    @property
    def dimensions(self) -> int | None:
        """Of its vectors; None of a rehearsal that has none yet."""
        return self.rehearsal.dimensions if self.rehearsal else self.space.dimensions

    @property
    def vectors(self) -> VectorSet:
        """Its vectors."""
        return VectorSet(self.rehearsal or self.space)


@dataclass(frozen=True, slots=True)
class Compared:
    """Two sides, and what both have of a tenant's chunks, or of a project's."""

    tenant: Tenant
    project_id: int | None
    sides: tuple[Side, Side]
    common: InCommon

    def pair(self, first: int) -> Pair:
        """Their vectors, those of one side first."""
        return self.sides[first].vectors, self.sides[1 - first].vectors

    @property
    def whole(self) -> bool:
        """Whether both are spaces with the same chunks: then each is read as queries read it."""
        return self.common.whole and all(side.rehearsal is None for side in self.sides)


@dataclass(frozen=True, slots=True)
class Question:
    """What both sides are to answer."""

    text: str
    judged: Sequence[UUID] = ()
    """Memories that are known to answer it."""


@dataclass(frozen=True, slots=True)
class KnownQuestion:
    """A question made of the words of a memory that both sides have."""

    project: str
    text: str
    answers: Sequence[UUID]


@dataclass(slots=True)
class Found:
    """What one side found, memories best first, and how long that took."""

    fused: Sequence[UUID] = ()
    semantic: Sequence[UUID] = ()
    whole: Sequence[UUID] | None = None
    """The fused answer of a space out of all that it has, where less was compared."""
    embed_seconds: float | None = None
    """Of a question that was embedded by itself, as those of queries are."""
    search_seconds: float = 0.0
    tokens: int = 0
    """Estimated."""
    index_recall: float | None = None
    """Share of the nearest vectors that the side's index finds; None where it has none."""


@dataclass(frozen=True, slots=True)
class ComparedAnswers:
    """A question with what both sides found."""

    found: tuple[Found, Found]
    missing: Sequence[UUID] = ()
    """Judged memories of which the two have no chunk in common: neither could find them."""


async def find_side(conn: Conn, name: str, tenant_id: int | None) -> Side | None:
    """A space of any state, or a rehearsal of a tenant; with None of any."""
    if match := _REHEARSAL.fullmatch(name):
        rehearsal = await rehearsals.find(conn, int(match[1]))
        if rehearsal is None or tenant_id not in (None, rehearsal.tenant_id):
            return None
        space = await spaces.get(conn, rehearsal.space_id)
        return Side(name, space, rehearsal) if space else None
    found = await spaces.by_version(conn, name)
    return Side(name, found) if found else None


def budget_reached(error: MemoryOperatorError) -> Conflict:
    """The answer to somebody who measures a model whose Provider may use no more today."""
    return Conflict(error.message, code="budget_reached", hint=error.hint)


def embedder_unavailable(name: str, error: MemoryOperatorError) -> Conflict:
    """The answer to somebody who measures a model whose vendor refuses the call."""
    return Conflict(
        f"{name} cannot be measured: {error.message}",
        code="embedder_unavailable",
        hint=error.hint or "look at the Provider's model, address and credential",
    )
