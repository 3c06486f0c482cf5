"""What a change would cost, estimated before anything is paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

CURRENCY = "USD"


@dataclass(frozen=True, slots=True)
class Effect:
    """What a held change would do."""

    from_dim: int
    to_dim: int
    vectors_discarded: int
    chunks_to_embed: int
    estimated_tokens: int
    estimated_cost: Decimal | None
    """US dollars; None where the Provider declares no price."""
    currency: str = CURRENCY


def cost_of(tokens: int | None, per_1k: Decimal | None) -> Decimal | None:
    """Exact cost of tokens at a price per thousand; None where either is unknown."""
    return None if tokens is None or per_1k is None else tokens * per_1k / 1000


_MOST_TIMES = 10
_MOST_MORE_PER_TEXT = 1_000


def believable(tokens: int | None, estimated: int, texts: int) -> int | None:
    """A vendor's count of tokens; None where it says none, or more than so many texts can have.

    It is a value from outside: what is stored and added up must not depend on whether it makes sense.
    """
    most = _MOST_TIMES * estimated + _MOST_MORE_PER_TEXT * texts
    return tokens if tokens is not None and 0 <= tokens <= most else None


def split(tokens: int | None, weights: Sequence[int]) -> list[int | None]:
    """Whole shares of a call's tokens by weight, which add up to them exactly; all None where the count is unknown."""
    if tokens is None:
        return [None] * len(weights)
    whole = sum(weights)
    if whole == 0:
        return [tokens, *[0] * (len(weights) - 1)]
    shares: list[int | None] = []
    passed = given = 0
    for weight in weights:
        passed += weight
        share = tokens * passed // whole - given
        given += share
        shares.append(share)
    return shares
