"""How good the answers of an edit's space have to be, and whether they are."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from memory_operator.contract.provider import (
    DEFAULT_GATE_QUESTIONS,
    DEFAULT_INDEX_RECALL,
    DEFAULT_NDCG_LOSS,
    EmbeddingSpec,
    GateSpec,
)
from memory_operator.measuring.measures import NDCG
from memory_operator.measuring.side_by_side import Summary, worse_than


class GateConfig(BaseModel):
    """What a Provider says of it. What a later release stored does not keep this one from measuring."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    max_ndcg_loss: float = DEFAULT_NDCG_LOSS
    min_recall: float = DEFAULT_INDEX_RECALL
    questions: int = DEFAULT_GATE_QUESTIONS


def gate_config(embedding: EmbeddingSpec) -> GateConfig | None:
    """What a spec says of it; None where nothing is measured."""
    if embedding.activation != "Measured":
        return None
    gate = embedding.gate or GateSpec()
    return GateConfig(
        max_ndcg_loss=DEFAULT_NDCG_LOSS if gate.max_ndcg_loss is None else gate.max_ndcg_loss,
        min_recall=DEFAULT_INDEX_RECALL if gate.min_recall is None else gate.min_recall,
        questions=gate.questions or DEFAULT_GATE_QUESTIONS,
    )


def reasons_against(gate: GateConfig, summary: Summary) -> Sequence[str]:
    """Why the second side is not good enough, a sentence for each reason; none where it is."""
    reasons = worse_than(summary.judged, gate.max_ndcg_loss) if summary.judged else []
    recall = summary.sides[1].index_recall
    if recall is not None and recall.mean < gate.min_recall:
        reasons.append(f"its index finds {recall.mean:.3f} of the nearest, at least {gate.min_recall:g} is needed")
    return reasons


def figures(summary: Summary) -> str:
    """What was measured, for people."""
    if summary.judged is None:
        return "no question could be made of what both spaces have"
    fused = summary.judged.ways["fused"]
    parts = []
    for name, both, comparison in ((NDCG, fused.ndcg, fused.ndcg_difference), ("MRR", fused.rr, fused.rr_difference)):
        difference = comparison.difference
        parts.append(f"{name} {both[0].mean:.3f} → {both[1].mean:.3f} ({difference.low:+.3f} … {difference.high:+.3f})")
    return f"{'; '.join(parts)}; overlap {summary.overlap['fused'].mean:.2f}; {summary.questions} questions"
