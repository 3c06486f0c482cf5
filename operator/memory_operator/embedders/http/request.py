"""The only place that sends requests to a vendor. The meter records each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from memory_operator.embedders.base import Counted, Meter
from memory_operator.embedders.http.endpoint import Endpoint
from memory_operator.embedders.http.json import to_json
from memory_operator.embedders.http.transport import Reply, Wire, reply_cap
from memory_operator.errors import BadReply
from memory_operator.plan.space import Mode

IN_A_THREAD_FROM_BYTES = 8 * 1024 * 1024
"""Larger replies are decoded off the event loop: 8 MiB take about 10 ms; for less a thread costs more than it frees."""

A = TypeVar("A", bound=Counted)
Decode = Callable[[bytes, int, int | None, str], A]
"""Reads a body, for so many texts, with vectors of that length (None: any), from that host; raises BadReply."""


@dataclass(frozen=True, slots=True)
class VendorRequest:
    """What the requests of one `embed` have in common. A reply that is `ok` has to be given to `decoded`."""

    endpoint: Endpoint
    mode: Mode
    wire: Wire = field(repr=False)
    ca_pem: str | None = field(repr=False)
    dimensions: int | None
    """Length that each vector must have; None for any."""
    timeout: float
    """Seconds; the caller bounds the whole with `answer_within`."""
    meter: Meter | None

    async def post(self, request: Mapping[str, object], inputs: int) -> Reply:
        """Send one request with so many texts; again, and announced again, where a kept connection had gone.

        Raises:
            EmbedderUnreachable: no whole reply came back.
            RequestRejected: a text cannot be sent.
            BadReply: the reply is too large, or its compression is broken.
        """
        body = to_json(request)

        async def sending() -> None:
            if self.meter is not None:
                await self.meter.sending(inputs)

        cap = reply_cap(inputs, self.dimensions)
        try:
            reply = await self.wire.post(
                self.endpoint, body, ca_pem=self.ca_pem, cap=cap, timeout=self.timeout, sending=sending
            )
        except BadReply:
            self._unusable()
            raise
        if not reply.ok and self.meter is not None:
            self.meter.refused()
        return reply

    async def decoded(self, reply: Reply, decode: Decode[A], inputs: int) -> A:
        """What a successful reply says, decoded in a thread where it is large.

        Raises:
            BadReply: as `decode`.
        """
        arguments = (reply.body, inputs, self.dimensions, self.endpoint.host)
        try:
            if len(reply.body) >= IN_A_THREAD_FROM_BYTES:
                answer = await asyncio.to_thread(decode, *arguments)
            else:
                answer = decode(*arguments)
        except BadReply:
            self._unusable()
            raise
        if self.meter is not None:
            self.meter.answered(answer.tokens)
        return answer

    def _unusable(self) -> None:
        if self.meter is not None:
            self.meter.unusable()
