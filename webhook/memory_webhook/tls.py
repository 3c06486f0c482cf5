"""The certificate and its key: loaded into the live TLS context, and again whenever the files change."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

from memory_webhook.expiry import not_after
from memory_webhook.metrics import WebhookMetrics

log = logging.getLogger(__name__)

_MAX_FILE_BYTES = 1024 * 1024


class PairError(Exception):
    """The certificate and the key cannot be used; the text says why and holds nothing of the key."""


class TlsFiles:
    """A certificate chain and its key in two PEM files, and the context that serves them."""

    def __init__(self, certificate: Path, key: Path, metrics: WebhookMetrics) -> None:
        self._certificate = certificate
        self._key = key
        self._metrics = metrics
        self._served = ""
        self._refused = ("", "")
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    def load(self) -> bool:
        """Load what the files hold; whether new handshakes are served another pair from now on.

        Raises PairError as long as the files hold no pair that can be used; the context is then as it was.
        """
        pair = _read(self._certificate), _read(self._key)
        digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in pair)).hexdigest()
        if digest == self._served:
            return False
        if digest == self._refused[0]:
            raise PairError(self._refused[1])
        try:
            # A pair that does not fit breaks the context that it is loaded into: a scratch one goes first. Both read
            # the same bytes, which the files may by now no longer hold.
            load_pair(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), *pair)
        except PairError as error:
            self._refused = (digest, str(error))
            raise
        load_pair(self.context, *pair)
        self._served = digest
        self._tell_expiry(pair[0])
        return True

    def _tell_expiry(self, certificate: bytes) -> None:
        try:
            self._metrics.tls_expiry.set(not_after(certificate))
        except ValueError as error:  # it is served all the same
            log.warning("the end of the certificate in %s cannot be read: %s", self._certificate, error)

    async def watch(self, seconds: float) -> None:
        """Look at the files every `seconds`, until cancelled.

        By content, since Kubernetes swaps a link above the files of a mounted Secret and leaves them as they are.
        """
        complained = ""
        while True:
            await asyncio.sleep(seconds)
            try:
                loaded = self.load()  # not in a thread: no handshake may run while the live context changes
            except PairError as error:
                if str(error) != complained:
                    self._metrics.tls_loads.labels("failed").inc()
                    log.error("the TLS pair that is served stays, since the new one cannot be used: %s", error)  # noqa: TRY400
                complained = str(error)
            else:
                complained = ""
                if loaded:
                    self._metrics.tls_loads.labels("ok").inc()
                    log.info("serving a new TLS pair from %s", self._certificate)
            self._metrics.tls_stale.set(1 if complained else 0)


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Load a pair of PEM texts into a context. Raises PairError, which may leave the context broken."""
    with _as_file("certificate", certificate) as certificate_path, _as_file("key", key) as key_path:
        try:
            context.load_cert_chain(certificate_path, key_path, password=_no_password)
        except ssl.SSLError as error:
            raise PairError(_reason(error)) from error
        except (OSError, ValueError) as error:
            raise PairError("it is no PEM certificate with its unencrypted PEM key") from error


def _no_password() -> str:
    """Without this, an encrypted key would make OpenSSL ask on the terminal."""
    raise ValueError


def _reason(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    return f"OpenSSL says {error.reason or 'no reason'}"


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PairError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise PairError(f"{path} is longer than {_MAX_FILE_BYTES} bytes")
    return content


@contextlib.contextmanager
def _as_file(name: str, content: bytes) -> Iterator[str]:
    """A path that reads as `content`: in memory, since a key belongs on no disk, and a container may have none."""
    descriptor = os.memfd_create(name)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
