"""HTTP as all vendors need it: pooled connections, bounded replies, and errors without secrets."""

from __future__ import annotations

import asyncio
import http.cookiejar
import socket
import ssl
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache

from memory_operator.embedders.http.endpoint import Endpoint
from memory_operator.errors import BadReply, ConfigurationError, EmbedderUnreachable
from memory_operator.turns import aside

# As in client/server/api.py: without this httpx imports Rich and Pygments for a command line of its own.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpx  # noqa: E402

CONNECT_SECONDS = 10.0
CONNECT_SHARE = 0.45
"""Part of a call's time that TCP, and then TLS, may take at most: each ends by its own limit before the call's
does. A TLS handshake that is cancelled from outside leaves its socket open (httpcore closes it on errors only)."""
MAX_CONNECTIONS = 256
KEEPALIVE_CONNECTIONS = 64
KEEPALIVE_SECONDS = 30.0
MAX_PRIVATE_CAS = 8
"""Clients kept for private CAs; beyond it the longest idle one is closed, so that CA rotation leaks none."""

ERROR_BODY_BYTES = 4096
"""How much of a refusal is read, to tell one refusal from another; it is never shown."""
REPLY_BASE_BYTES = 4 * 1024 * 1024
BYTES_PER_NUMBER = 32
"""More than any JSON float takes."""
NUMBERS_AT_LEAST = 4096


def reply_cap(texts: int, dimensions: int | None) -> int:
    """Most bytes that a reply with vectors for `texts` texts may have, decompressed."""
    return REPLY_BASE_BYTES + texts * BYTES_PER_NUMBER * max(dimensions or 0, NUMBERS_AT_LEAST)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. The body is whole when `ok`, otherwise at most its first 4096 bytes."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300

    def mentions(self, *words: str) -> bool:
        """Whether a refusal's text has one of `words` in it, in lower case."""
        text = self.body.decode(errors="replace").lower()
        return any(word in text for word in words)


@dataclass(slots=True)
class _Line:
    client: httpx.AsyncClient
    calls: int = 0


class Wire:
    """The HTTP clients of one event loop: one for public CAs, one for each private CA."""

    def __init__(self) -> None:
        self._lines: dict[str | None, _Line] = {}

    def prepare(self, ca_pem: str | None) -> None:
        """Make sure that calls under `ca_pem` can be made.

        Raises:
            ConfigurationError: no certificate in it, or a proxy variable that cannot be used.
        """
        if ca_pem not in self._lines:
            self._lines[ca_pem] = _Line(_client(ca_pem))

    async def post(
        self,
        endpoint: Endpoint,
        body: bytes,
        *,
        ca_pem: str | None,
        cap: int,
        timeout: float,
        sending: Callable[[], Awaitable[None]],
    ) -> Reply:
        """Post JSON and read the reply, at most `cap` bytes of it.

        The caller bounds the whole time with `answer_within(timeout)`; here it bounds the connecting only.
        `sending` is awaited before each request that leaves.

        Raises:
            EmbedderUnreachable: no whole reply came back.
            BadReply: the reply is larger than `cap` or its compression is broken.
        """
        connect = min(CONNECT_SECONDS, timeout * CONNECT_SHARE)
        async with self._client(ca_pem) as client:
            with _translate_errors(endpoint.host, connect):
                await sending()
                try:
                    with aside():
                        return await _exchange(client, endpoint, body, cap, connect)
                except httpx.RemoteProtocolError as lost:
                    # Most often the server closed a kept connection just as we used it. Once more, on a new one.
                    if not str(lost).startswith("Server disconnected without sending"):
                        raise
                    await sending()
                    with aside():
                        return await _exchange(client, endpoint, body, cap, connect)

    async def aclose(self) -> None:
        """Close all connections."""
        lines, self._lines = self._lines, {}
        for line in lines.values():
            await line.client.aclose()

    @asynccontextmanager
    async def _client(self, ca_pem: str | None) -> AsyncIterator[httpx.AsyncClient]:
        self.prepare(ca_pem)
        line = self._lines.pop(ca_pem)
        self._lines[ca_pem] = line  # last used comes last
        line.calls += 1
        try:
            await self._close_surplus()
            yield line.client
        finally:
            line.calls -= 1

    async def _close_surplus(self) -> None:
        private = [(pem, line) for pem, line in self._lines.items() if pem is not None]
        for pem, line in private[: max(0, len(private) - MAX_PRIVATE_CAS)]:
            if line.calls == 0:
                del self._lines[pem]
                await line.client.aclose()


@asynccontextmanager
async def answer_within(seconds: float, host: str) -> AsyncIterator[None]:
    """Bound everything inside: httpx's own limits are for single reads, and a slow sender outlasts them.

    Raises:
        EmbedderUnreachable: the time is over.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise EmbedderUnreachable(
            f"{host} did not answer within {seconds:g} s",
            hint="check that the embedding server is up; spec.defaults.requestTimeout bounds a worker's call",
        ) from None


@cache
def _public_authorities() -> ssl.SSLContext:
    """What public servers are verified by: to load the list takes 20 ms, so once in a process."""
    return httpx.create_ssl_context()


def _client(ca_pem: str | None) -> httpx.AsyncClient:
    if ca_pem is None:
        verify = _public_authorities()
    else:
        try:
            verify = ssl.create_default_context(cadata=ca_pem)
        except (ssl.SSLError, ValueError):
            raise ConfigurationError(
                "The private CA is not a PEM certificate",
                hint="spec.embedding.caSecretRef names a Secret with PEM certificates (key ca.crt)",
            ) from None
    try:
        return httpx.AsyncClient(
            verify=verify,
            # A redirect could carry the key and the texts to somebody else.
            follow_redirects=False,
            timeout=None,  # noqa: S113 - `answer_within` bounds the whole, `_exchange` the connecting
            limits=httpx.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=KEEPALIVE_CONNECTIONS,
                keepalive_expiry=KEEPALIVE_SECONDS,
            ),
            # Base64 hardly shrinks, and unpacking costs more CPU than the network saves.
            headers={"user-agent": "memory-operator", "accept": "application/json", "accept-encoding": "identity"},
            # One Provider's cookie must not travel with another's calls.
            cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[])),
        )
    except (ImportError, ValueError, httpx.InvalidURL):
        raise ConfigurationError(
            "A proxy variable of the environment cannot be used",
            hint="HTTP_PROXY, HTTPS_PROXY and ALL_PROXY take http:// and https:// URLs",
        ) from None


async def _exchange(client: httpx.AsyncClient, endpoint: Endpoint, body: bytes, cap: int, connect: float) -> Reply:
    headers = {"content-type": "application/json", **endpoint.headers}
    limit = httpx.Timeout(None, connect=connect)
    async with client.stream("POST", endpoint.url, content=body, headers=headers, timeout=limit) as response:
        if not response.is_success:
            return Reply(response.status_code, response.headers, await _beginning(response))
        declared = response.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > cap:
            raise _too_large(endpoint.host, cap)
        unpack = _unpacker(response, endpoint.host)
        chunks: list[bytes] = []
        left = cap
        async for raw in response.aiter_raw():
            chunk = unpack(raw, left + 1)
            left -= len(chunk)
            if left < 0:
                raise _too_large(endpoint.host, cap)
            chunks.append(chunk)
        return Reply(response.status_code, response.headers, b"".join(chunks))


async def _beginning(response: httpx.Response) -> bytes:
    start = b""
    async for chunk in response.aiter_raw():
        start += chunk
        if len(start) >= ERROR_BODY_BYTES:
            break
    return start[:ERROR_BODY_BYTES]


def _unpacker(response: httpx.Response, host: str) -> Callable[[bytes, int], bytes]:
    """What makes at most so many bytes of a piece of the body. We ask for no compression; gzip may come all the same.

    httpx unpacks without a limit, and through as many layers as a hostile reply names.
    """
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return lambda raw, _: raw
    if encoding != "gzip":
        raise BadReply(f"{host} sent a compressed reply, which was not asked for")
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    def unpack(raw: bytes, limit: int) -> bytes:
        try:
            return unzip.decompress(raw, limit)
        except zlib.error:
            raise BadReply(f"{host} sent a reply whose compression is broken") from None

    return unpack


def _too_large(host: str, cap: int) -> BadReply:
    return BadReply(
        f"{host} sent more than {cap // 1_048_576} MiB in reply",
        hint="check that spec.baseURL is an embedding API; lower spec.embedding.batchSize",
    )


@contextmanager
def _translate_errors(host: str, connect: float) -> Iterator[None]:
    """Turn httpx's errors into ours. `from None`: some of httpx's texts quote headers."""
    try:
        yield
    except httpx.ProxyError:
        raise EmbedderUnreachable(
            f"The proxy in front of {host} refused the connection",
            hint="check HTTPS_PROXY, HTTP_PROXY and NO_PROXY of this process",
        ) from None
    except httpx.ConnectTimeout:
        raise EmbedderUnreachable(
            f"{host} did not accept a connection within {connect:.2g} s",
            hint="check the base URL and the network policy between here and there",
        ) from None
    except httpx.ConnectError as failed:
        why, hint = _why_no_connection(failed)
        raise EmbedderUnreachable(f"{host} cannot be reached: {why}", hint=hint) from None
    except httpx.HTTPError:
        raise EmbedderUnreachable(
            f"{host} broke the connection off", hint="the embedding server may be restarting; it is tried again"
        ) from None


def _why_no_connection(failed: BaseException) -> tuple[str, str]:
    cause: BaseException | None = failed
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted ({cause.verify_message})",
                "for a private CA name its Secret in spec.embedding.caSecretRef",
            )
        if isinstance(cause, ssl.SSLError):
            return "the TLS handshake failed", "check that spec.baseURL has the right scheme and port"
        if isinstance(cause, socket.gaierror):
            return "its name cannot be resolved", "check the host in spec.baseURL and the DNS of this process"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused", "check that the embedding server is up and the port is right"
        cause = cause.__cause__ or cause.__context__
    return "no connection", "check that the embedding server is up and that the network lets us through"
