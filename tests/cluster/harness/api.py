"""One HTTPS request to an API server, without a client library: what is tested must not test itself."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REQUEST_SECONDS = 120.0
"""How long one request may wait for each read."""


@dataclass(frozen=True, slots=True)
class Reply:
    """HTTP status and JSON body; a body that is no JSON object is under the key `text`."""

    status: int
    body: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether the API server did it."""
        return self.status < 400


@dataclass(frozen=True)
class ApiAddress:
    """Where an API server listens on 127.0.0.1, and the certificate that it shows."""

    port: int
    certificate: Path

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"https://127.0.0.1:{self.port}"

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str,
        content_type: str = "application/json",
        accept: str = "application/json",
        seconds: float = REQUEST_SECONDS,
    ) -> Reply:
        """Send one request. Raises OSError (TimeoutError, ConnectionError, ssl.SSLError) when nobody answers."""
        headers = {"Authorization": f"Bearer {token}", "Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        context = ssl.create_default_context(cafile=str(self.certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=seconds, context=context)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        return Reply(response.status, _object(text))


def _object(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except ValueError:
        return {"text": text}
    return read if isinstance(read, dict) else {"text": text}
