"""What an embedder is to the rest of the product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memory_operator.plan.space import CallConfig, Mode


class Counted(Protocol):
    """The answer to one call, whatever is in it."""

    @property
    def tokens(self) -> int | None:
        """Input tokens that the vendor counted; None when it did not report any, never 0 for unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The answer to one call: a vector for each text, in the order of the texts."""

    vectors: NDArray[np.float32]
    """Shape (n, d), C-contiguous, every row finite and not all zero."""
    tokens: int | None
    """As `Counted.tokens`."""


@dataclass(frozen=True, slots=True)
class Relevance:
    """The answer of a rerank API: how well each text answers the question, in the order of the texts."""

    scores: Sequence[float]
    """As the vendor gave them, all finite: the higher the better, from 0 to 1 with most vendors."""
    tokens: int | None
    """As `Counted.tokens`."""


def counted_tokens(answers: Sequence[Counted]) -> int | None:
    """Tokens of all answers; None where there is none, or the vendor did not count for each."""
    counts = [answer.tokens for answer in answers if answer.tokens is not None]
    return sum(counts) if answers and len(counts) == len(answers) else None


class Meter(Protocol):
    """Records each request that one `embed` sends to a vendor, since each may have to be paid.

    A request that was sent and then neither answered, refused nor unusable got no complete reply.
    """

    async def sending(self, inputs: int) -> None:
        """A request with so many texts leaves as soon as this returns."""
        ...

    def answered(self, tokens: int | None) -> None:
        """The last request was answered; tokens as `Counted.tokens`."""
        ...

    def refused(self) -> None:
        """The vendor refused the last request."""
        ...

    def unusable(self) -> None:
        """The reply to the last request cannot be used."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors under one configuration. Safe to call concurrently on its pool's event loop."""

    async def embed(
        self,
        texts: Sequence[str],
        *,
        mode: Mode,
        timeout: float,
        dimensions: int | None,
        meter: Meter | None = None,
    ) -> Embeddings:
        """Embed all of `texts` or raise; there is no partial answer.

        Args:
            texts: preprocessed texts, without the prefixes: those are added here, by `mode`.
            mode: whether the texts are to be found or to find with.
            timeout: seconds for everything that happens in here, fallbacks and slices included.
            dimensions: length that every vector must have; None accepts whatever comes back (a probe).
            meter: records each request to a vendor; types that call no vendor ignore it.

        Raises:
            EmbedderUnreachable, RateLimited: later may be better.
            CredentialRefused, RequestRejected, BadReply: the same call fails again.
        """
        ...


class Reranker(Protocol):
    """Says how well texts answer a question. Safe to call concurrently on its pool's event loop."""

    async def rerank(
        self, question: str, texts: Sequence[str], *, timeout: float, meter: Meter | None = None
    ) -> Relevance:
        """Score all of `texts` or raise; there is no partial answer.

        `timeout` is for everything that happens in here. Raises what `Embedder.embed` raises.
        """
        ...


PROBE_TEXT = "How long is a vector of this model?"


async def probe(embedder: Embedder, timeout: float, meter: Meter | None = None) -> int:
    """Embed one short text and return the length of the vector that comes back.

    Args:
        embedder: the embedder to ask.
        timeout: seconds.
        meter: as for `Embedder.embed`.

    Raises:
        Everything that `Embedder.embed` raises.
    """
    answer = await embedder.embed([PROBE_TEXT], mode="document", timeout=timeout, dimensions=None, meter=meter)
    return int(answer.vectors.shape[1])


def with_prefix(texts: Sequence[str], mode: Mode, config: CallConfig) -> list[str]:
    """The texts as the model gets them: behind the prefix that their mode has."""
    prefix = config.query_prefix if mode == "query" else config.document_prefix
    return [prefix + text for text in texts] if prefix else list(texts)
