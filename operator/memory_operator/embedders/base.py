"""What an embedder is to the rest of the product, and what the module of each type declares about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from memory_operator.plan.space import CallConfig, Mode

if TYPE_CHECKING:
    from memory_operator.embedders.capabilities import ServerCapabilities
    from memory_operator.embedders.http.transport import Wire
    from memory_operator.embedders.vendors.azure_identity import WorkloadIdentity


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The answer to one call: a vector for each text, in the order of the texts."""

    vectors: NDArray[np.float32]
    """Shape (n, d), C-contiguous, every row finite and not all zero."""
    tokens: int | None
    """Input tokens that the vendor counted; None when it did not say, never 0 for unknown."""


class Meter(Protocol):
    """Is told of each request that one `embed` sends to a vendor, since what is sent may have to be paid.

    A request that was sent and then neither answered, refused nor unusable got no whole reply.
    """

    async def sending(self, inputs: int) -> None:
        """A request with so many texts leaves as soon as this returns."""
        ...

    def answered(self, tokens: int | None) -> None:
        """The last request brought vectors; tokens as `Embeddings.tokens`."""
        ...

    def refused(self) -> None:
        """The vendor said no to the last request."""
        ...

    def unusable(self) -> None:
        """The reply to the last request is not what was asked for."""
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
            meter: is told of each request to a vendor; the types that call none leave it alone.

        Raises:
            EmbedderUnreachable, RateLimited: later may be better.
            CredentialRefused, RequestRejected, BadReply: the same call fails again.
        """
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What an embedder is made from."""

    config: CallConfig
    credential: str | None = field(repr=False)
    ca_pem: str | None = field(repr=False)
    wire: Wire = field(repr=False)
    capabilities: ServerCapabilities = field(repr=False)
    """What the server behind this base URL and model was found to refuse; shared by all embedders for it."""
    executor: Callable[[], Executor] = field(repr=False)
    """Gives the one thread for models that compute in this process."""
    identity: WorkloadIdentity = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    """Of this process."""


@dataclass(frozen=True, slots=True)
class EmbedderType:
    """One Provider type: how its embedder is built and how much one call may carry.

    A further vendor is a module with one of these, added to the table in `registry.py`.
    """

    name: str
    build: Callable[[Parts], Embedder]
    max_inputs: int
    """Most texts in one request."""
    default_batch_size: int
    """Texts in one request when the Provider does not say."""
    max_tokens_per_request: int | None = None
    max_tokens_per_request_of: Mapping[str, int] = field(default_factory=dict)
    """The same for models that have a limit of their own."""
    max_tokens_per_text: int | None = None
    calls_a_vendor: bool = True
    """Whether its embedder sends requests, which may have to be paid; False where this process computes the vectors."""


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
