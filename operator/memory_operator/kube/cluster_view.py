"""The cluster about itself: the API server's clock, and the webhooks that review Providers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from kubernetes.aio.client import ApiClient

from memory_operator.contract.provider import GROUP, PLURAL
from memory_operator.engine.ports.cluster import Registration
from memory_operator.errors import NotPermitted
from memory_operator.kube.boundary import ApiCall, Forbidden, Manifest, ask, time_of

_SECONDS = 5.0
_HANDSHAKE_SECONDS = 3.0
_HTTPS = 443


class KubeClusterView:
    """The ClusterView of an API server. For the event loop that its ApiClient belongs to."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def clock(self) -> datetime:
        """The API server's time, to the second. Raises SourceUnavailable."""
        return await time_of(self._api, seconds=_SECONDS)

    async def registrations(self) -> Sequence[Registration]:
        """The webhooks that review Providers. Raises SourceUnavailable, NotPermitted."""
        call = ApiCall("list", "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations")
        try:
            listed = await ask(self._api, call, seconds=_SECONDS)
        except Forbidden as error:
            raise NotPermitted(f"looking at webhooks needs {call.permission}") from error
        found = [
            (str(each.get("metadata", {}).get("name", "")), webhook)
            for each in listed.get("items") or ()
            for webhook in each.get("webhooks") or ()
            if _reviews_providers(webhook)
        ]
        return await asyncio.gather(*(_registration(name, webhook) for name, webhook in found))


def _reviews_providers(webhook: Manifest) -> bool:
    return any(
        GROUP in (rule.get("apiGroups") or ()) and PLURAL in (rule.get("resources") or ()) for rule in _rules(webhook)
    )


def _rules(webhook: Manifest) -> Sequence[Any]:
    return webhook.get("rules") or ()


async def _registration(name: str, webhook: Manifest) -> Registration:
    config = webhook.get("clientConfig") or {}
    try:
        authority = base64.b64decode(config.get("caBundle") or "", validate=True)
        ends = [each.not_valid_after_utc for each in x509.load_pem_x509_certificates(authority)] if authority else []
        context = ssl.create_default_context(cadata=authority.decode() or None)
    except (binascii.Error, ValueError, ssl.SSLError):
        return Registration(name, None, "the authority that it is verified by cannot be read")
    if not ends:
        return Registration(name, None, "it has no authority to be verified by")
    service = config.get("service") or {}
    try:
        served = await _served_until(service, context)
    except ssl.SSLCertVerificationError as error:
        return Registration(name, None, f"its certificate does not hold ({error.verify_message})")
    except (OSError, TimeoutError):
        served = None  # a pod that may not reach it, or a process outside of the cluster
    return Registration(name, min([*ends, served] if served else ends))


async def _served_until(service: Manifest, context: ssl.SSLContext) -> datetime | None:
    """When the certificate ends that a Service shows. Raises OSError, TimeoutError."""
    if not service:
        return None
    host = f"{service.get('name')}.{service.get('namespace')}.svc"
    async with asyncio.timeout(_HANDSHAKE_SECONDS):
        _, writer = await asyncio.open_connection(host, int(service.get("port") or _HTTPS), ssl=context)
        shown = writer.get_extra_info("peercert") or {}
        writer.transport.abort()
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC) if "notAfter" in shown else None
