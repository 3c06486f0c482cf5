"""A stub vendor for measurements: OpenAI's form only, straight on sockets, its vectors' text made beforehand.

A text costs it a few microseconds, so that it is never what a measurement waits for. What it does wrong it does by
rule (`Habits`), not by script: for faults that come and go in a test see `Script`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from vendor.vectors import Codebook

CONTROL = "/_stub"
EMBEDDINGS = ("/v1/embeddings", "/embeddings")


@dataclass(slots=True)
class Habits:
    """How this vendor is. All that is set holds together; the default is a fast and faultless one."""

    dimensions: int = 768
    api_key: str | None = None
    """Without this key a call is a 401; None takes any and none."""
    latency_ms: float = 0
    per_item_us: float = 0
    """Each text takes so much more."""
    rate_429: int = 0
    """More calls than this within a second are refused with 429 and Retry-After; 0: as many as you like."""
    max_concurrency: int = 0
    """More calls than this at once are refused with `overload_status`; 0: as many as you like."""
    overload_status: int = 503
    poison: str | None = None
    """A call with this in any of its texts is a 400."""
    wrong_length_every: int = 0
    """In each so-manieth answer one vector is too short."""
    hang_every: int = 0
    """Each so-manieth call is never answered."""
    refuse_base64: bool = False


@dataclass(slots=True)
class Seen:
    """What has arrived, and what became of it."""

    count: int = 0
    """Calls."""
    texts: int = 0
    """Texts of all calls."""
    answered: int = 0
    """Calls that got vectors."""
    answered_texts: int = 0
    """Texts of those: what a vendor would charge for."""
    refused: int = 0
    unanswered: int = 0
    """Calls whose caller went away before the answer."""
    tokens: int = 0
    """Of answered calls."""
    in_flight: int = 0
    peak_in_flight: int = 0
    first_batch_at: float | None = None
    """Unix time in seconds of the first call with more than one text: a probe of the model is none."""
    last_answer_at: float | None = None


class FastVendor:
    """One vendor for any number of connections, on one event loop."""

    def __init__(self, habits: Habits) -> None:
        self.habits = habits
        self.seen = Seen()
        self.connections: set[_Connection] = set()
        self._codebooks: dict[tuple[str, int], Codebook] = {}
        self._distinct: set[int] = set()
        self._second = 0
        self._in_second = 0
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, chosen by the system when 0 was asked for."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and cut all connections."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()

    def arrived(self, texts: list[str]) -> None:
        """Count a call."""
        seen = self.seen
        seen.count += 1
        seen.texts += len(texts)
        seen.in_flight += 1
        seen.peak_in_flight = max(seen.peak_in_flight, seen.in_flight)
        if seen.first_batch_at is None and len(texts) > 1:
            seen.first_batch_at = time.time()
        self._distinct.update(map(hash, texts))

    def refusal(self, request: dict[str, Any], texts: list[str], key: str | None) -> tuple[int, str, float] | None:
        """Status, message and seconds of Retry-After (0: none) where the call is refused."""
        habits = self.habits
        if habits.api_key is not None and key != habits.api_key:
            return 401, "Incorrect API key provided", 0
        if habits.max_concurrency and self.seen.in_flight > habits.max_concurrency:
            return habits.overload_status, "overloaded", 0
        wait = self._too_fast()
        if wait:
            return 429, "Rate limit reached", wait
        if not texts or not all(texts):
            return 400, "input cannot be an empty string", 0
        if habits.refuse_base64 and request.get("encoding_format") == "base64":
            return 400, "base64 encoding is not currently supported", 0
        if habits.poison is not None and any(habits.poison in text for text in texts):
            return 400, "one of the inputs is not acceptable", 0
        return None

    def _too_fast(self) -> float:
        if not self.habits.rate_429:
            return 0
        now = time.monotonic()
        if int(now) != self._second:
            self._second, self._in_second = int(now), 0
        self._in_second += 1
        return 1 - now % 1 if self._in_second > self.habits.rate_429 else 0

    def hangs(self) -> bool:
        """Whether this call is one that is never answered."""
        return bool(self.habits.hang_every) and self.seen.count % self.habits.hang_every == 0

    def vectors(self, request: dict[str, Any], texts: list[str]) -> bytes:
        """The body of an answer."""
        model, length = request.get("model", ""), request.get("dimensions") or self.habits.dimensions
        book = self._codebooks.get((model, length))
        if book is None:
            book = self._codebooks[model, length] = Codebook(model, length)
        as_base64 = request.get("encoding_format") == "base64"
        parts = [b'{"object":"list","data":[']
        before, after = (b'","index":', b"},") if as_base64 else (b',"index":', b"},")
        opening = b'{"object":"embedding","embedding":"' if as_base64 else b'{"object":"embedding","embedding":'
        vector = book.base64 if as_base64 else book.numbers
        for number, text in enumerate(texts):
            parts += (opening, vector(text), before, b"%d" % number, after)
        if self._wrong_length():
            short = Codebook(model, max(1, length - 1))
            parts[-4] = short.base64(texts[-1]) if as_base64 else short.numbers(texts[-1])
        parts[-1] = b"}"
        tokens = self.tokens(texts)
        usage = b'{"prompt_tokens":%d,"total_tokens":%d}' % (tokens, tokens)
        parts.append(b'],"model":%b,"usage":%b}' % (json.dumps(model).encode(), usage))
        return b"".join(parts)

    def _wrong_length(self) -> bool:
        every = self.habits.wrong_length_every
        return bool(every) and (self.seen.answered + 1) % every == 0

    def tokens(self, texts: list[str]) -> int:
        """As many as a vendor would count, near enough: one for each four characters."""
        return sum(map(len, texts)) // 4 + len(texts)

    def answered(self, texts: list[str]) -> None:
        """Count an answer with vectors."""
        self.seen.answered += 1
        self.seen.answered_texts += len(texts)
        self.seen.tokens += self.tokens(texts)
        self.seen.last_answer_at = time.time()

    def control(self, target: str, body: bytes) -> dict[str, Any]:
        """How it is steered from another process: see `VendorProcess`. Raises ValueError."""
        if target == f"{CONTROL}/script":
            wanted = json.loads(body)
            if wanted.pop("faults", None):
                raise ValueError("a fast vendor takes no faults, only habits")
            self.habits = dataclasses.replace(self.habits, **wanted)
        if target == f"{CONTROL}/forget":
            self.seen = Seen(in_flight=self.seen.in_flight)
            self._distinct.clear()
        return {**dataclasses.asdict(self.seen), "distinct": len(self._distinct)}


class _Connection(asyncio.Protocol):
    """One kept connection: requests come one after the other, as HTTP/1.1 clients send them."""

    def __init__(self, vendor: FastVendor) -> None:
        self._vendor = vendor
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._needed = 0
        self._waiting: asyncio.TimerHandle | None = None
        self._open = False
        """A call is under way."""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        # Let a whole answer be handed over at once: nobody here waits for the buffer to drain.
        self._transport.set_write_buffer_limits(high=1 << 30)
        self._vendor.connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._vendor.connections.discard(self)
        if self._waiting is not None:
            self._waiting.cancel()
        if self._open:
            self._vendor.seen.in_flight -= 1
            self._vendor.seen.unanswered += 1

    def abort(self) -> None:
        """Cut it."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < self._needed:
            return
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end])
        lowered = head.lower()
        length = int(_header(lowered, lowered, b"content-length") or 0)
        self._needed = end + 4 + length
        if len(self._received) < self._needed:
            return
        body = bytes(self._received[end + 4 : self._needed])
        del self._received[: self._needed]
        self._needed = 0
        self._request(head, lowered, body)

    def _request(self, head: bytes, lowered: bytes, body: bytes) -> None:
        target = head.split(b" ", 2)[1].decode("latin-1")
        if target.startswith(CONTROL):
            try:
                self._send(200, json.dumps(self._vendor.control(target, body)).encode())
            except (ValueError, TypeError) as error:
                self._refuse(400, str(error), 0)
            return
        if target not in EMBEDDINGS:
            self._refuse(404, "no such page", 0)
            return
        vendor = self._vendor
        request = json.loads(body)
        given = request["input"]
        texts = [given] if isinstance(given, str) else given
        vendor.arrived(texts)
        self._open = True
        key = (_header(head, lowered, b"authorization") or b"").removeprefix(b"Bearer ").decode("latin-1")
        refused = vendor.refusal(request, texts, key)
        if refused is not None:
            vendor.seen.refused += 1
            self._settle()
            self._refuse(*refused)
        elif not vendor.hangs():
            seconds = vendor.habits.latency_ms / 1000 + vendor.habits.per_item_us / 1e6 * len(texts)
            self._waiting = self._loop.call_later(seconds, self._answer, request, texts)

    def _answer(self, request: dict[str, Any], texts: list[str]) -> None:
        self._waiting = None
        body = self._vendor.vectors(request, texts)
        self._vendor.answered(texts)
        self._settle()
        self._send(200, body)

    def _settle(self) -> None:
        self._open = False
        self._vendor.seen.in_flight -= 1

    def _refuse(self, status: int, message: str, wait: float) -> None:
        extra = b"Retry-After: %d\r\n" % math.ceil(wait) if wait else b""
        self._send(status, json.dumps({"error": {"message": message}}).encode(), extra)

    def _send(self, status: int, body: bytes, extra: bytes = b"") -> None:
        if self._transport.is_closing():
            return
        head = b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n" % (
            status,
            HTTPStatus(status).phrase.encode(),
            len(body),
            extra,
        )
        self._transport.writelines([head, body])


def _header(head: bytes, lowered: bytes, name: bytes) -> bytes | None:
    """The value of a header in a request's head, `lowered` being the same in lower case."""
    at = lowered.find(b"\r\n" + name + b":")
    if at < 0:
        return None
    start = at + len(name) + 3
    end = lowered.find(b"\r\n", start)
    return head[start : end if end >= 0 else len(head)].strip()
