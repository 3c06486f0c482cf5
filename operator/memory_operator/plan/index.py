"""Which index a space's vectors have: what is asked for, what may be tried, what is in use and why."""

from __future__ import annotations

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

    def serves(self, wanted: IndexConfig, vectors: int) -> bool:
        """Whether it is what is wanted by now. What was measured counts until there are far more vectors."""
        return self.wanted == wanted and (wanted.kind != "auto" or vectors < _CHOSEN_AGAIN_AT * self.vectors)


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
