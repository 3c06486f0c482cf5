"""Events that a person sees in `kubectl describe provider`."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import UTC, datetime

from kubernetes.aio.client import ApiClient

from memory_operator.contract.provider import GROUP, KIND, VERSION
from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.ports.sources import ProviderEvent
from memory_operator.errors import MemoryOperatorError
from memory_operator.kube.boundary import ApiCall, Manifest, ask
from memory_operator.kube.status import timestamp
from memory_operator.logs import get_logger

log = get_logger(__name__)

COMPONENT = "memory-operator"
_MESSAGE_BYTES = 1024
_REASON_CHARACTERS = 128


async def send_events(api: ApiClient, ref: ProviderRef, uid: str, events: Sequence[ProviderEvent]) -> None:
    """Create each Event once. One that the API server refuses is logged and dropped: the conditions say it too."""
    call = ApiCall("create", "", "v1", "events", namespace=ref.namespace)
    for event in events:
        report = log.info if event.type == "Normal" else log.warning
        report("%s: %s: %s", ref, event.reason, event.message, extra={"provider": str(ref)})
        try:
            await ask(api, call, event_manifest(ref, uid, event, datetime.now(UTC)))
        except MemoryOperatorError as error:
            log.warning("Event %s dropped: %s", event.reason, error.message, extra={"provider": str(ref)})


def event_manifest(ref: ProviderRef, uid: str, event: ProviderEvent, now: datetime) -> Manifest:
    """A core/v1 Event about a Provider."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{ref.name}.", "namespace": ref.namespace},
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "namespace": ref.namespace,
            "name": ref.name,
            "uid": uid,
        },
        "type": event.type,
        "reason": event.reason[:_REASON_CHARACTERS],
        "message": _shortened(event.message),
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": socket.gethostname(),
        "firstTimestamp": timestamp(now),
        "lastTimestamp": timestamp(now),
        "count": 1,
    }


def _shortened(message: str) -> str:
    encoded = message.encode()
    if len(encoded) <= _MESSAGE_BYTES:
        return message
    return encoded[: _MESSAGE_BYTES - 3].decode(errors="ignore") + "…"
