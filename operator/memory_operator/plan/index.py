"""Which index a space's vectors have: what is asked for, what may be tried, what is in use and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from memory_operator.contract.known_models import DEFAULT_EF_CONSTRUCTION, DEFAULT_M, column_limit
from memory_operator.contract.provider import EmbeddingSpec, HnswSpec, IndexKind

Built = Literal["hnsw", "hnsw-halfvec", "hnsw-binary", "none"]

FROM_VECTORS = 1_000
"""Below this an exact scan is as fast as an index."""

ENOUGH_RECALL = 0.98
"""Share of the ten nearest that an index must find for `auto` to take it."""

DECLARED = "spec.embedding.index asks for it"

_CHOSEN_AGAIN_AT = 4
"""How many times as many vectors there have to be until what `auto` chose is measured again."""

_SMALLEST_FIRST: tuple[Built, ...] = ("hnsw-binary", "hnsw-halfvec", "hnsw")


FOLD_FROM = 2_000
"""As many vectors that no index has are worth one: until then to compare each of them costs a query as little."""

MOST_UNINDEXED = 5_000
"""A build that would let there be more before it ends is left for later."""

_MOST_SEGMENTS = 4
_TIDIED = 3
"""Each segment costs a query nearly as much as the first one, however small it is."""

_TOO_MANY_SEGMENTS = 8
_MOST_UNINDEXED_THEN = 20_000
"""Where vectors come for hours nearly as fast as they can be built: else there would be ever more segments to ask."""

_REST_SECONDS = 300.0
"""Where the last build was so long ago, vectors come slowly, and queries count for more than builds do."""

_BUILT_PER_SECOND = 500.0
"""Vectors, where nothing is known of the last build."""


class Segment(BaseModel):
    """A range of chunk ids whose vectors have an index of their own."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    first: int
    end: int
    """The first id behind it."""
    rows: int = 0
    """How many vectors there were when it was built."""
    began: float = 0.0
    """When its end was chosen, in seconds by the database's clock."""
    seconds: float = 0.0
    """How long its build took."""


class IndexConfig(BaseModel):
    """What a Provider says of the index. What a later release stored of it does not keep this one from working."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: IndexKind = "hnsw"
    m: int = DEFAULT_M
    ef_construction: int = DEFAULT_EF_CONSTRUCTION


class IndexInUse(BaseModel):
    """The index that queries use."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Built = "hnsw"
    m: int = DEFAULT_M
    ef_construction: int = DEFAULT_EF_CONSTRUCTION
    wanted: IndexConfig | None = None
    """What it was made for; None where none was made yet, or by release 0.1."""
    vectors: int = 0
    """How many there were."""
    reason: str = ""
    """Why it is this one, for people."""
    segments: tuple[Segment, ...] = ()
    """The ranges that it is made of, each behind the one before; empty where it is one index of all vectors."""

    @property
    def end(self) -> int | None:
        """The first chunk id that is in no segment; None where one index has all."""
        return self.segments[-1].end if self.segments else None

    def serves(self, wanted: IndexConfig, vectors: int) -> bool:
        """Whether it is what is wanted by now. What was measured counts until there are far more vectors."""
        return self.wanted == wanted and (wanted.kind != "auto" or vectors < _CHOSEN_AGAIN_AT * self.vectors)


def to_fold(segments: Sequence[Segment], unindexed: int, now: float) -> int | None:
    """How many of the newest segments the next build takes in, with the vectors that no index has; None: none is due.

    A segment is taken in once what is newer is as much, or at rest a share of it, which leaves about four: the larger
    the store, the smaller the share. So each vector is built into an index a few times until it is in the largest.
    """
    if not segments:
        return None
    passed = max(0.001, now - segments[-1].began)
    at_rest = passed >= _REST_SECONDS
    is_due, is_untidy = unindexed >= FOLD_FROM, at_rest and len(segments) > _MOST_SEGMENTS
    if not is_due and not is_untidy:
        return None
    total = unindexed + sum(segment.rows for segment in segments)
    times = max(1.0, (total / FOLD_FROM) ** (1 / (_MOST_SEGMENTS - 1))) if at_rest else 1.0
    most = _affordable(segments, unindexed, passed)
    rows, taken = unindexed, 0
    for older in reversed(segments):
        left_over = is_untidy and len(segments) - taken >= _TIDIED
        if not (left_over or older.rows <= times * rows) or rows + older.rows > most:
            break
        rows, taken = rows + older.rows, taken + 1
    return taken if is_due or taken > 1 else None


def _affordable(segments: Sequence[Segment], unindexed: int, passed: float) -> float:
    """Vectors of which an index is built before too many others come: a table has one build at a time."""
    speed = min((each.rows / each.seconds for each in segments if each.seconds), default=_BUILT_PER_SECOND)
    most = MOST_UNINDEXED if len(segments) < _TOO_MANY_SEGMENTS else _MOST_UNINDEXED_THEN
    return max(0, most - unindexed) / max(unindexed, 1) * passed * speed


def index_config(embedding: EmbeddingSpec) -> IndexConfig:
    """What a spec says of the index."""
    hnsw = embedding.hnsw or HnswSpec()
    m = hnsw.m or DEFAULT_M
    return IndexConfig(
        kind=embedding.index or "hnsw",
        m=m,
        ef_construction=hnsw.ef_construction or max(DEFAULT_EF_CONSTRUCTION, 2 * m),
    )


def to_try(wanted: IndexConfig, in_use: IndexInUse, column_type: str, dimensions: int) -> list[Built]:
    """The kinds to build until one serves, the smallest first. Those that `auto` found wanting are not tried again."""
    if wanted.kind == "none":
        return []
    if wanted.kind != "auto":
        # Numbers that 16 bits cannot hold are found when it is built.
        kinds: tuple[Built, ...] = (wanted.kind, "hnsw") if wanted.kind == "hnsw-halfvec" else (wanted.kind,)
    else:
        kinds = _SMALLEST_FIRST
        if in_use.wanted == wanted and in_use.kind in kinds:
            kinds = kinds[kinds.index(in_use.kind) :]
    same = "hnsw-halfvec" if column_type == "halfvec" and wanted.kind == "auto" else None
    return [kind for kind in kinds if kind != same and dimensions <= column_limit(column_type, kind)]


def describe(in_use: IndexInUse, wanted: IndexConfig, vectors: int) -> tuple[Built, str]:
    """The index that queries use, and why, for people."""
    if wanted.kind == "none":
        return "none", DECLARED
    if in_use.wanted is not None:
        return in_use.kind, in_use.reason
    if vectors < FROM_VECTORS:
        return "none", f"an exact scan is as fast below {FROM_VECTORS} vectors"
    return "none", f"{wanted.kind} is not built yet"
