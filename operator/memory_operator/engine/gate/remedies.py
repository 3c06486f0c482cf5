"""What is wrong with the models of spaces, and the ways out with their prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from memory_operator.plan.cost import CURRENCY, cost_of
from memory_operator.plan.coverage import ENOUGH_COVERAGE, coverage
from memory_operator.store.db.pool import Conn
from memory_operator.store.jobs import jobs
from memory_operator.store.memories import text_sums
from memory_operator.store.spaces import model_checks, registry, spaces
from memory_operator.store.spaces.model_checks import ModelChecks
from memory_operator.store.spaces.spaces import Space


@dataclass(frozen=True, slots=True)
class Checks:
    """The spaces whose models are gone or are other ones by now, and what the ways out are made of."""

    of: Mapping[int, ModelChecks] = field(default_factory=dict)
    """By space; one with whose model nothing is wrong is absent."""
    chunks: int = 0
    texts: int = 0
    """Tokens of all live chunks without a prefix, as estimated."""
    others: Sequence[str] = ()
    """Names of spaces that could answer instead."""

    def way_out(self, space: Space) -> str:
        """What to do where the model of a space is gone."""
        name = next((other for other in self.others if other != space.embedding_version), None)
        if name is not None:
            return f"`memory embeddings activate {name}` answers from a space that is full, at once and for nothing"
        return f"edit spec.model to one that is there: {self._embeds(space, 'again')}"

    def rebuilt(self, space: Space) -> str:
        """What to do where the model of a space is another one by now."""
        return f"`memory embeddings rebuild --space {space.embedding_version}` {self._embeds(space, 'anew')}"

    def _embeds(self, space: Space, how: str) -> str:
        cost = cost_of(self.texts, space.config.input_cost_per_1k)
        price = "" if cost is None else f" ({CURRENCY} {cost.normalize():f} at this Provider's price)"
        return f"embeds {self.chunks} chunks {how}, about {self.texts} tokens{price}"


async def read_checks(conn: Conn, space_ids: Sequence[int] | None) -> Checks:
    """What is wrong with the models of some spaces, or of all; the ways out are looked for only where something is."""
    found = await model_checks.some(conn, space_ids)
    wrong = {space_id: one for space_id, one in found.items() if one.gone_since or one.drifted_since}
    if not wrong:
        return Checks()
    all_found = await model_checks.some(conn, None)
    failing = await jobs.last_errors(conn)
    others = [
        space.embedding_version
        for space, figures in await spaces.all_with_figures(conn)
        if space.gets_vectors
        and space.id not in failing
        and coverage(figures.vectors, figures.chunks, figures.quarantined) >= ENOUGH_COVERAGE
        and (space.id not in all_found or all_found[space.id].gone_since is None)
    ]
    chunks = (await registry.counted(conn, [registry.CHUNKS])).get(registry.CHUNKS, 0)
    return Checks(wrong, chunks, await text_sums.estimated_tokens(conn, 0), others)
