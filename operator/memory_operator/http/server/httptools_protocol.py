"""HTTP by the parser of Node.js: a third of what one in Python takes, and less strict."""

from __future__ import annotations

from uuid import uuid4

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from memory_operator.http.problems import Problem, answer
from memory_operator.listening import HeadLimit

_HEAD_BYTES = 65_536
"""Of one request, or behind its body; the parser, which is the one of Node.js, takes any number."""


class LimitedHttpTools(HeadLimit, HttpToolsProtocol):  # type: ignore[misc]  # both are uvicorn's, of one shape
    """uvicorn's faster protocol, which also bounds how long a head is and wants one Host, as the slower one does."""

    _no_end_bytes = 0
    """That came since the last head ended, or the last part of a body."""

    def data_received(self, data: bytes) -> None:
        """Count what belongs to no body: heads, what stands behind chunked bodies and between their chunks."""
        self._no_end_bytes += len(data)
        super().data_received(data)
        if self._no_end_bytes > _HEAD_BYTES and not self.transport.is_closing():
            self.transport.close() if self.busy else self.send_400_response("the head of the request is too long")

    def on_headers_complete(self) -> None:
        """Refuse a head that names no host, or several."""
        self._no_end_bytes = 0
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise httptools.HttpParserError("a request has one Host header")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Begin to count anew."""
        self._no_end_bytes = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong as every other answer does, and end the connection."""
        request_id = uuid4().hex
        refusal = answer(Problem(400, "invalid_http", msg.rstrip(".")), request_id)
        added = [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
        headers = [*self.server_state.default_headers, *refusal.raw_headers, *added]
        lines = [STATUS_LINE[400], *(name + b": " + value + b"\r\n" for name, value in headers), b"\r\n"]
        self.transport.write(b"".join(lines) + bytes(refusal.body))
        self.transport.close()
