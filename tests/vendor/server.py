"""The stub vendor's HTTP: real sockets, HTTP/1.1 with kept connections, on an event loop of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
import socket
import ssl
import struct
from http import HTTPStatus
from typing import Any

from vendor.forms import is_exchange, read_call
from vendor.replies import VendorReply, answer
from vendor.script import Call, Fault, Script

CONTROL = "/_stub"
_MIB = b" " * 1_048_576


class VendorServer:
    """Serves one script until it is closed. Belongs to the event loop that started it."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; returns the port, chosen by the system when 0 was asked for."""
        self._server = await asyncio.start_server(self._connected, host, port, ssl=tls, limit=64 * 1_048_576)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and cut all connections, whatever they are at."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._connections)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        try:
            while await self._one_request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            # The client went away, or the stub is closed. Not raised on: nobody waits for this task, and
            # a cancelled one would be reported by asyncio's stream callback.
            pass
        finally:
            writer.transport.abort()

    async def _one_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first = await reader.readexactly(1)
        if first == b"\x16":  # a TLS handshake where TLS is not spoken
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return False
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        _, target, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if target.startswith(CONTROL):
            await self._controlled(target, body, writer)
            return True
        if is_exchange(target):
            return await self._exchanged(target, body, writer)
        self.script.in_flight += 1
        self.script.peak_in_flight = max(self.script.peak_in_flight, self.script.in_flight)
        try:
            return await self._answer(read_call(target, headers, body), writer)
        finally:
            self.script.in_flight -= 1

    async def _answer(self, call: Call, writer: asyncio.StreamWriter) -> bool:
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        fault = self.script.fault_for(call.inputs, call.target)
        changed = self.script.changed
        self.script.saw(call)
        if fault.hold:
            await changed.wait()
            fault = Fault()
        if fault.reset == "before":
            _reset(writer)
            return False
        if fault.reset == "quietly":
            return False
        said = answer(self.script, call, fault)
        wait = (self.script.latency_ms + fault.latency_ms) / 1000 - (loop.time() - arrived)
        if wait > 0:
            await asyncio.sleep(wait)
        if said.whole and (fault.huge_mib or fault.gzip_mib):
            await _send_nothing(writer, fault)
            return True
        await _send(writer, said, fault)
        if fault.reset == "midway":
            _reset(writer)
            return False
        return True

    async def _exchanged(self, target: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """VendorReply as the authority does that gives tokens."""
        fault = self.script.fault_for((), target, exchange=True)
        changed = self.script.changed
        if fault.hold:
            await changed.wait()
            fault = Fault()
        status, said = self.script.authority.exchange(target, body)
        if fault.status is not None:
            status, said = fault.status, fault.body.encode()
        await _send(writer, VendorReply(status, said, whole=status == 200), fault)
        return True

    async def _controlled(self, target: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        """How a vendor in another process is steered: see `VendorProcess`."""
        script = self.script
        if target == f"{CONTROL}/script":
            wanted: dict[str, Any] = json.loads(body)
            for name in ("latency_ms", "api_key", "dimensions"):
                if name in wanted:
                    setattr(script, name, wanted[name])
            if "faults" in wanted:
                script.set_faults([Fault(**fault) for fault in wanted["faults"]])
        if target == f"{CONTROL}/forget":
            script.calls.clear()
            script.count = script.texts = script.peak_in_flight = 0
        seen = {
            "count": script.count,
            "texts": script.texts,
            "in_flight": script.in_flight,
            "peak_in_flight": script.peak_in_flight,
            "calls": [dataclasses.asdict(call) for call in script.calls] if target == f"{CONTROL}/calls" else [],
        }
        await _send(writer, VendorReply(200, json.dumps(seen).encode()), Fault())


async def _send(writer: asyncio.StreamWriter, said: VendorReply, fault: Fault) -> None:
    body = gzip.compress(said.body) if fault.encoding == "gzip" else said.body
    body = body[: len(body) // 2] if fault.truncate else body
    extra = ""
    if not said.whole and fault.retry_after is not None:
        extra += f"Retry-After: {fault.retry_after}\r\n"
    if not said.whole and fault.location is not None:
        extra += f"Location: {fault.location}\r\n"
    if fault.encoding is not None:
        extra += f"Content-Encoding: {fault.encoding}\r\n"
    # A cookie, as some vendors set: it must not come back.
    extra += "Set-Cookie: session=of-another-provider; Path=/\r\n"
    writer.write(
        f"HTTP/1.1 {said.status} {HTTPStatus(said.status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{extra}\r\n".encode()
    )
    if fault.reset == "midway":
        writer.write(body[: len(body) // 2])
    elif fault.trickle_ms:
        for byte in body:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(fault.trickle_ms / 1000)
    else:
        writer.write(body)
    await writer.drain()


async def _send_nothing(writer: asyncio.StreamWriter, fault: Fault) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    if fault.gzip_mib:
        packed = gzip.compress(_MIB * fault.gzip_mib)
        writer.write(head + b"Content-Encoding: gzip\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed))
    else:
        writer.write(head + b"\r\n")
        for _ in range(fault.huge_mib):
            writer.write(b"%x\r\n%b\r\n" % (len(_MIB), _MIB))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side gets a reset, not an end."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
