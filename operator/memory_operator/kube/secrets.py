"""Reading one named Secret. Secrets are never listed and never watched, and not kept here."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from kubernetes.aio.client import ApiClient

from memory_operator.engine.ports.secrets import usable_values
from memory_operator.engine.ports.sources import SecretReader
from memory_operator.errors import NotFound, SecretMissing
from memory_operator.kube.boundary import ApiCall, ask

_SECONDS = 5.0


def secret_reader(api: ApiClient) -> SecretReader:
    """A function (namespace, name) → the Secret's decoded texts. A key whose value is no UTF-8 text is left out, and
    so is what `usable_values` withholds.

    It raises SecretMissing and SourceUnavailable.
    """

    async def read(namespace: str, name: str) -> Mapping[str, str]:
        call = ApiCall("get", "", "v1", "secrets", namespace=namespace, name=name)
        try:
            secret = await ask(api, call, seconds=_SECONDS)
        except NotFound as error:
            raise SecretMissing(
                f"Secret {namespace}/{name} does not exist", hint="create it in the Provider's namespace"
            ) from error
        decoded = {key: _text(value) for key, value in (secret.get("data") or {}).items()}
        values = {key: text for key, text in decoded.items() if text is not None}
        labels = secret.get("metadata", {}).get("labels") or {}
        return usable_values(namespace, name, str(secret.get("type") or ""), labels, values)

    return read


def _text(encoded: str) -> str | None:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
