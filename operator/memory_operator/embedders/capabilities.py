"""What a server behind a base URL was found to refuse, so that it is tried only once."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class ServerCapabilities:
    """Findings about one (base URL, model), kept as long as the pool.

    Something that worked once is never doubted again: a later refusal is then about the texts, and the
    batch must not be sent a second time in another form.
    """

    base64: bool | None = None
    """Whether `encoding_format: base64` is accepted; None until a call has shown it."""
    dimensions: dict[int, bool] = field(default_factory=dict)
    """Whether `dimensions: n` is accepted, by n."""
    max_inputs: int | None = None
    """Most texts in one request, where the server named a limit of its own."""
