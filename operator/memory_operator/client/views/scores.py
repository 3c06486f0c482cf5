"""Where the score of a result comes from: a bar for each channel, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator

from memory_operator.client.server.explanation import ExplanationDocument, RerankDocument
from memory_operator.client.server.schemas import HitDocument
from memory_operator.client.terminal.format import clean

_CHANNELS = {"fulltext": "words", "semantic": "meaning"}
_BAR = 40
"""Columns of a score of 1."""


def weight_lines(explanation: ExplanationDocument) -> Iterator[str]:
    """What each channel weighs in this query, and why."""
    for name, channel in explanation.channels.items():
        why = "as asked for" if explanation.weights_given else f"{channel.usual:.2f} x {channel.knows:.2f} known"
        yield f"{_named(name)}  weighs {channel.weight:.4f}  ({why})"


def contributions(hit: HitDocument) -> tuple[str, ...]:
    """What words, meaning and their agreement give to a score, in this order."""
    given = [
        hit.diagnostics.channels[name].contribution if name in hit.diagnostics.channels else 0 for name in _CHANNELS
    ]
    return tuple(f"{part:.4f}" for part in (*given, hit.diagnostics.agreement))


def rerank_line(rerank: RerankDocument) -> str:
    """Who put the first results in order, or why nobody did."""
    if rerank.status == "ok":
        model = f", {clean(rerank.model)}" if rerank.model else ""
        return f"re-ranked  the first {rerank.texts}: {clean(rerank.provider)}{model}"
    return f"not re-ranked by {clean(rerank.provider)} ({clean(rerank.reason or rerank.status)}): the order before"


def bars(hit: HitDocument, least_relevance: float | None = None) -> Iterator[str]:
    """A line for each channel that found a result, and one for their agreement; together they are its fused score.

    Of an answer that was re-ranked a last line says what became of that: then it is the score.
    """
    for name, match in hit.diagnostics.channels.items():
        yield _bar(name, match.contribution, f"rank {match.rank}, {match.score:.3f}")
    if hit.diagnostics.agreement:
        yield _bar("agreement", hit.diagnostics.agreement, "")
    if after := hit.diagnostics.rerank:
        yield _bar("re-ranked", after.relevance, f"rank {after.rank}, {after.rank_before} before")
    elif least_relevance is not None:
        yield _bar("follows", hit.score, f"{hit.diagnostics.fused_score:.3f} x {least_relevance:.3f}")


def _bar(name: str, part: float, remark: str) -> str:
    filled = min(_BAR, max(0, round(part * _BAR)))
    return f"   {_named(name)} {part:.4f} {'█' * filled}{'·' * (_BAR - filled)} {remark}".rstrip()


def _named(channel: str) -> str:
    return clean(_CHANNELS.get(channel, channel))[:9].ljust(9)
