"""One batch of stored chunks through an embedder: decrypted, called, and bisected where the vendor refuses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memory_operator.embedders import Embedder, probe
from memory_operator.errors import BadReply, RequestRejected

PROBE_SECONDS = 10.0


@dataclass(slots=True)
class EmbeddedBatch:
    """What became of the texts of a batch, by their place in it."""

    places: list[int] = field(default_factory=list)
    """Places that got a vector."""
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    """Vectors of shape (n, dimensions); concatenated they are in the order of `places`."""
    refused: dict[int, str] = field(default_factory=dict)
    """Places that the vendor refuses even alone, with the reason."""
    tokens: int | None = 0
    """Sum over the calls; None once a call did not say."""

    def add(self, places: Sequence[int], vectors: NDArray[np.float32], tokens: int | None) -> None:
        """Take in the reply to one call."""
        self.places.extend(places)
        self.vectors.append(vectors)
        self.tokens = None if tokens is None or self.tokens is None else self.tokens + tokens


async def embed_batch(embedder: Embedder, texts: Sequence[str], dimensions: int, timeout: float) -> EmbeddedBatch:
    """Embed documents; a refused batch is halved until the texts that are to blame stand alone.

    A text is blamed only while the embedder still takes another: otherwise the refusal is raised, since it is not
    about the text. Raises EmbedderUnreachable, RateLimited, CredentialRefused, RequestRejected, BadReply.
    """
    batch = EmbeddedBatch()
    waiting = [list(range(len(texts)))]
    while waiting:
        places = waiting.pop()
        try:
            reply = await embedder.embed(
                [texts[place] for place in places], mode="document", timeout=timeout, dimensions=dimensions
            )
        except (RequestRejected, BadReply) as error:
            if isinstance(error, RequestRejected) and not error.about_the_texts:
                raise
            if len(places) > 1:
                middle = len(places) // 2
                waiting += [places[middle:], places[:middle]]
            elif await probe(embedder, PROBE_SECONDS) != dimensions:
                raise
            else:
                batch.refused[places[0]] = error.message
        else:
            batch.add(places, reply.vectors, reply.tokens)
    return batch
