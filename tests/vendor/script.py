"""What a stub vendor does with a call: its settings, what goes wrong, and what it has seen."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vendor.authority import Authority
from vendor.vectors import Codebook, WordBook

RerankForm = Literal["cohere_rerank", "voyage_rerank", "jina_rerank", "tei_rerank"]
Form = Literal["openai", "ollama", "voyageai", "cohere", "gemini", "azure", "unknown"] | RerankForm

IRRELEVANT = 0.01


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong. All fields that are set happen together; the default is that nothing does."""

    containing: str | None = None
    """Only for calls with an input that has this in it."""
    path: str | None = None
    """Only for paths with this in them; an exchange of tokens is met by such faults only."""
    times: int | None = None
    """For so many calls, then no more; None until the fault is changed."""

    status: int | None = None
    """Answer with this status and no vectors."""
    body: str = '{"error":{"message":"scripted refusal"}}'
    retry_after: str | None = None
    """Header of that answer: seconds, or an HTTP date."""
    location: str | None = None
    """Header of that answer, for redirects."""
    reply: str | None = None
    """Answer with this instead, as a success."""
    hold: bool = False
    """Keep the caller waiting until the fault is changed; then answer as if nothing had been."""
    latency_ms: float = 0
    """On top of the vendor's own."""
    reset: Literal["before", "midway", "quietly"] | None = None
    """Cut the connection: before any byte of the reply, in the middle of its body; or end it as an idle one is."""
    truncate: bool = False
    """Half of the JSON, under a Content-Length that fits it."""
    trickle_ms: float = 0
    """The body byte by byte, with so long in between."""
    huge_mib: int = 0
    """So much of nothing, in chunks."""
    gzip_mib: int = 0
    """So much of nothing, compressed."""
    encoding: str | None = None
    """Name this Content-Encoding; gzip is also done."""

    vectors: int = 0
    """So many vectors more (or fewer) than texts."""
    length: int = 0
    """Every vector longer (or shorter) by this."""
    uneven: bool = False
    """The last vector longer by one than the others."""
    shrunk: bool = False
    """Each vector is half as long as it should be, with as many numbers."""
    becomes: str | None = None
    """Answer as the model of this name would."""
    value: Literal["nan", "inf", "huge", "zero"] | None = None
    """In the last vector: one such number (huge: beyond 16 bits, within 32), or nothing but zeros."""

    refuse_base64: bool = False
    ignore_base64: bool = False
    """Answer numbers where base64 is asked for."""
    mixed: bool = False
    """Every other vector as base64, whatever is asked for."""
    refuse_dimensions: bool = False
    ignore_dimensions: bool = False
    """Answer vectors of the model's own length where another is asked for."""
    vague: bool = False
    """Refusals do not say what they are about."""
    max_batch: int | None = None
    """Refuse more inputs than this, in the words of text-embeddings-inference."""
    shuffle: bool = False
    """The last vector first; `index` still says which is which."""
    same_index: bool = False
    no_usage: bool = False
    count: str | None = None
    """The count of tokens, as it stands in the JSON, whatever it is."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that arrived."""

    target: str
    """Path, or the whole URL when it came through a proxy."""
    headers: Mapping[str, str]
    """Names in lower case."""
    model: str
    inputs: Sequence[str]
    encoding_format: str | None
    dimensions: int | None
    truncate: bool | str | None
    form: Form = "openai"
    mode: str | None = None
    """Whether the texts are documents or queries, in the vendor's words."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """The whole body."""

    @property
    def key(self) -> str | None:
        """The key that came with it: in the vendor's own header, otherwise as a bearer token."""
        own = {"azure": "api-key", "gemini": "x-goog-api-key"}.get(self.form, "")
        if own in self.headers:
            return self.headers[own]
        if self.form == "gemini":
            return None
        scheme, _, key = self.headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" else None


@dataclass(slots=True)
class Script:
    """State of one stub vendor, read on its event loop."""

    dimensions: int = 768
    models: Mapping[str, int] | None = None
    """Lengths by model; any other model is a 404. None: every model is there, with `dimensions`."""
    api_key: str | None = None
    """Without this key a call is a 401; None takes any and none."""
    latency_ms: float = 0
    relevant: Mapping[str, float] = field(default_factory=dict)
    """How well a text with this in it answers any question; a text with none of them gets `IRRELEVANT`."""
    record: bool = True
    """Whether calls are kept; a bench only counts them."""

    authority: Authority = field(default_factory=Authority)
    faults: list[Fault] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced, whenever the faults change."""
    calls: list[Call] = field(default_factory=list)
    count: int = 0
    texts: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    _used: list[int] = field(default_factory=list)
    _codebooks: dict[tuple[str, int], Codebook] = field(default_factory=dict)

    def set_faults(self, faults: Sequence[Fault]) -> None:
        """From now on these; the first that applies to a call is taken."""
        self.faults = list(faults)
        self._used = [0] * len(self.faults)
        self.changed.set()
        self.changed = asyncio.Event()

    def fault_for(self, inputs: Sequence[str], target: str, *, exchange: bool = False) -> Fault:
        """What happens to this call, or to this exchange of tokens."""
        for number, fault in enumerate(self.faults):
            if (exchange and fault.path is None) or (fault.path or "") not in target:
                continue
            if fault.times is not None and self._used[number] >= fault.times:
                continue
            if fault.containing is not None and not any(fault.containing in text for text in inputs):
                continue
            self._used[number] += 1
            return fault
        return Fault()

    def saw(self, call: Call) -> None:
        """Count a call, and keep it where that is wanted."""
        self.count += 1
        self.texts += len(call.inputs)
        if self.record:
            self.calls.append(call)

    def length_of(self, model: str) -> int | None:
        """Length of the model's vectors; None when there is no such model."""
        return self.dimensions if self.models is None else self.models.get(model)

    def codebook(self, model: str, dimensions: int) -> Codebook:
        """The vectors of a model at a length."""
        key = (model, dimensions)
        if key not in self._codebooks:
            for stale in list(itertools.islice(self._codebooks, max(0, len(self._codebooks) - 15))):
                del self._codebooks[stale]
            self._codebooks[key] = (WordBook if model.startswith("words") else Codebook)(model, dimensions)
        return self._codebooks[key]
