"""All events that we react to in a cluster, and kopf's settings.

kopf sees events only: it writes no annotation, no finalizer, no status. A handler is a guard and one call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import kopf

from memory_operator.contract.provider import GROUP, PLURAL, VERSION
from memory_operator.contract.resource import ANNOTATION_PREFIX, STATUS_ANNOTATION, ProviderRef, parse_provider
from memory_operator.kube.login import Login

Fingerprint = tuple[str, int, tuple[tuple[str, str], ...]]


class Triggers(Protocol):
    """What events of the watched cluster trigger in the operator. Never blocks."""

    def enqueue(self, ref: ProviderRef) -> None:
        """Ask for a reconcile of one Provider."""
        ...

    def listed_again(self) -> None:
        """Ask for a full listing, which alone shows that a Provider is gone."""
        ...


class Seen:
    """What was last seen of each Provider: our own status writes trigger nothing, nor do Providers of other roles."""

    def __init__(self) -> None:
        self._seen: dict[ProviderRef, Fingerprint] = {}
        self._embedding: set[ProviderRef] = set()

    def is_new(self, ref: ProviderRef, metadata: Mapping[str, Any]) -> bool:
        """Whether what decides about a Provider changed since last time."""
        fingerprint = fingerprint_of(metadata)
        if self._seen.get(ref) == fingerprint:
            return False
        self._seen[ref] = fingerprint
        return True

    def forget(self, ref: ProviderRef) -> None:
        """Treat the next Provider of that name as new."""
        self._seen.pop(ref, None)
        self._embedding.discard(ref)

    def tell(self, triggers: Triggers, event: Mapping[str, Any]) -> None:
        """Trigger what one event of a watch asks for: a reconcile, or a listing where an embedding Provider left."""
        provider = parse_provider(event["object"])
        ref, was_embedding = provider.ref, provider.ref in self._embedding
        if event["type"] == "DELETED":
            self.forget(ref)
            if was_embedding or provider.may_embed:
                triggers.listed_again()
        elif self.is_new(ref, event["object"]["metadata"]):
            if provider.may_embed:
                self._embedding.add(ref)
                triggers.enqueue(ref)
            elif was_embedding:
                self._embedding.discard(ref)
                triggers.listed_again()


def fingerprint_of(metadata: Mapping[str, Any]) -> Fingerprint:
    """What of an object's metadata can change a decision: uid, generation, and the annotations that carry fields."""
    annotations = metadata.get("annotations") or {}
    ours = (each for each in annotations.items() if each[0].startswith(ANNOTATION_PREFIX))
    return (
        str(metadata.get("uid")),
        int(metadata.get("generation") or 0),
        tuple(sorted(each for each in ours if each[0] != STATUS_ANNOTATION)),
    )


def handlers(triggers: Triggers, login: Login) -> kopf.OperatorRegistry:
    """A registry of our own, so that nothing that other code registers globally runs here."""
    registry = kopf.OperatorRegistry()
    seen = Seen()

    kopf.on.login(registry=registry, id="login", errors=kopf.ErrorsMode.PERMANENT)(login)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry, id="provider")
    async def provider(event: kopf.RawEvent, **_: Any) -> None:
        seen.tell(triggers, event)

    return registry


def settings() -> kopf.OperatorSettings:
    """How kopf behaves: alone, silent towards the API server, and bounded in each wait."""
    chosen = kopf.OperatorSettings()
    chosen.process.ultimate_exiting_timeout = None  # it would kill the process from a thread
    chosen.peering.standalone = True
    chosen.posting.enabled = False
    chosen.scanning.disabled = True  # else it wants to watch CRDs and namespaces of the whole cluster
    chosen.networking.connect_timeout = 5.0
    chosen.networking.request_timeout = 30.0
    chosen.networking.error_backoffs = (1, 2, 3, 5)  # then that run ends, and run_kopf starts another
    chosen.watching.connect_timeout = 5.0
    chosen.watching.server_timeout = 240  # the server ends a quiet stream; a dead one is noticed after 70 s anyway
    chosen.watching.reconnect_backoff = 1.0
    return chosen
