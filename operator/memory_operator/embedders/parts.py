"""What an embedder is built from, and what each Provider type declares about its embedder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

from memory_operator.embedders.base import Embedder
from memory_operator.embedders.capabilities import ServerCapabilities
from memory_operator.embedders.http.transport import Wire
from memory_operator.plan.space import CallConfig


class TokenSource(Protocol):
    """Gives short-lived tokens for the identity of this process."""

    async def token(self, scope: str, timeout: float) -> str:
        """A token for `scope` that stays valid for a while. Raises what `Embedder.embed` raises."""
        ...

    def forget(self, scope: str) -> None:
        """Get a new token at the next call: the last one was not accepted."""
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
    identity: TokenSource = field(repr=False)
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
    """Texts in one request unless the Provider sets a batch size."""
    max_tokens_per_request: int | None = None
    max_tokens_per_request_of: Mapping[str, int] = field(default_factory=dict)
    """The same for models that have a limit of their own."""
    max_tokens_per_text: int | None = None
    calls_a_vendor: bool = True
    """Whether its embedder sends requests, which may have to be paid; False where this process computes the vectors."""
