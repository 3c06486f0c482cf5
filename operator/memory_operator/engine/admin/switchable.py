"""Whether queries may switch to a space, and why not."""

from __future__ import annotations

from dataclasses import dataclass

from memory_operator.errors import Conflict
from memory_operator.plan.cost import CURRENCY, cost_of
from memory_operator.plan.coverage import ENOUGH_COVERAGE, coverage
from memory_operator.store.db.pool import Conn
from memory_operator.store.memories import text_sums
from memory_operator.store.spaces import gates, providers
from memory_operator.store.spaces.spaces import Space, SpaceFigures

_ENOUGH_COVERAGE_KEPT = 0.9
_MOST_PENDING_KEPT = 100
"""Of a space that is kept for the way back, while memories are added all the time."""


@dataclass(frozen=True, slots=True)
class SpaceView:
    """One space with its figures."""

    space: Space
    figures: SpaceFigures
    unindexed: int = 0
    """Vectors that its index does not have yet, counted to a little beyond the number that there should be at most."""

    @property
    def coverage(self) -> float:
        """Share of the live chunks that have a vector."""
        return coverage(self.figures.vectors, self.figures.chunks, self.figures.quarantined)

    @property
    def covers_enough(self) -> bool:
        """Whether queries may switch to it: a kept one has what is pending within seconds."""
        few = self.space.kept and not self.unaccounted and self.figures.pending <= _MOST_PENDING_KEPT
        return self.coverage >= (_ENOUGH_COVERAGE_KEPT if few else ENOUGH_COVERAGE)

    @property
    def unaccounted(self) -> int:
        """Live chunks that have no vector and for which none is to be made."""
        figures = self.figures
        coming = figures.pending if self.space.gets_vectors else 0  # of one that was kept some may be left for a moment
        return max(0, figures.chunks - figures.vectors - figures.quarantined - coming)


async def refuse_orphaned(conn: Conn, space: Space) -> None:
    """A space whose Provider is gone would answer worse each day."""
    row = await providers.get(conn, space.ref)
    if space.state == "orphaned" or (space.state == "retired" and (row is None or row.absent_since is not None)):
        raise Conflict(
            f"the Provider of {space.embedding_version} is gone, so nothing could embed queries for it",
            code="space_orphaned",
            hint=f"apply Provider {space.ref} again; it gets this space back",
        )


async def lacks_some(conn: Conn, view: SpaceView) -> Conflict:
    """What a space lacks that was replaced by an edit and is kept no longer, and what filling it takes."""
    space, figures = view.space, view.figures
    tokens = await text_sums.estimated_tokens(conn, len(space.config.document_prefix.encode()))
    share = tokens * view.unaccounted // max(1, figures.chunks)
    cost = cost_of(share, space.config.input_cost_per_1k)
    price = "" if cost is None else f", {CURRENCY} {cost.normalize():f}"
    ended = f" ({space.keep_ended})" if space.keep_ended else ""
    return Conflict(
        f"{space.embedding_version} was replaced by an edit of Provider {space.ref} and gets no new memories{ended}: it"
        f" lacks {view.unaccounted} of {figures.chunks} chunks, about {share} tokens{price}",
        code="space_retired",
        hint=f"edit Provider {space.ref} back: what is lacking is filled, then queries switch; or activate it with"
        " force: it answers at once, and is filled meanwhile",
        extra={
            "coverage": view.coverage,
            "vectors": figures.vectors,
            "chunks": figures.chunks,
            "quarantined": figures.quarantined,
            "lacking": view.unaccounted,
            "estimated_tokens": share,
            "estimated_cost": None if cost is None else f"{cost:f}",
            "currency": CURRENCY,
        },
    )


async def refuse_unmeasured(conn: Conn, view: SpaceView) -> None:
    """Queries switch to a space that is to be measured once it was found good enough. Raises Conflict."""
    space = view.space
    if not await gates.is_measured(conn, space.id):
        return
    result = await gates.result(conn, space.id)
    if result is not None and result.passed:
        return
    what = "was not measured yet"
    if result is not None:
        what = f"{'is not good enough' if result.measured else 'could not be compared so far'}: {result.message}"
    raise Conflict(
        f"{space.embedding_version} {what}",
        code="gate_not_passed",
        hint='give "force": true to switch all the same' if result else 'wait until it is, or give "force": true',
    )


def not_covered(view: SpaceView) -> Conflict:
    """That a space finds too little of what is stored, with the figures."""
    return Conflict(
        f"only {view.figures.vectors} of {view.figures.chunks} chunks have a vector in {view.space.embedding_version}"
        f" (coverage {view.coverage:.4f}, needed {ENOUGH_COVERAGE})",
        code="coverage_below_threshold",
        hint='wait until the fill is done, or give "force": true',
        extra={
            "coverage": view.coverage,
            "threshold": ENOUGH_COVERAGE,
            "vectors": view.figures.vectors,
            "chunks": view.figures.chunks,
            "quarantined": view.figures.quarantined,
        },
    )
