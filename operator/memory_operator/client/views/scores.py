"""Where the score of a result comes from: a bar for each channel, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator

from memory_operator.client.server.explanation import ExplanationDocument
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


def bars(hit: HitDocument) -> Iterator[str]:
    """A line for each channel that found a result, and one for their agreement; together they are its score."""
    for name, match in hit.diagnostics.channels.items():
        yield _bar(name, match.contribution, f"rank {match.rank}, {match.score:.3f}")
    if hit.diagnostics.agreement:
        yield _bar("agreement", hit.diagnostics.agreement, "")


def _bar(name: str, part: float, remark: str) -> str:
    filled = min(_BAR, max(0, round(part * _BAR)))
    return f"   {_named(name)} {part:.4f} {'█' * filled}{'·' * (_BAR - filled)} {remark}".rstrip()


def _named(channel: str) -> str:
    return clean(_CHANNELS.get(channel, channel))[:9].ljust(9)
