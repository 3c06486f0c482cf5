"""Which installation of memory-operator wrote the status of a Provider, and whether ours is to leave it standing.

Each writes under a field manager of its own, so that the API server itself records who wrote last, and when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from cachetools import LRUCache

from memory_operator.contract.resource import STATUS_ANNOTATION, ProviderRef
from memory_operator.contract.status import Reason
from memory_operator.kube.boundary import Manifest

GRACE_SECONDS = 30.0
"""How long another installation has to say something about a new or edited Provider."""
STANDS_SECONDS = 3600.0
"""How long a status stands that another installation, which serves the namespace too, last wrote."""
_REMEMBERED = 10_000
"""Providers of which it is remembered since when they are as they are."""
_MANAGER = "memory-operator"
_MANAGER_CHARACTERS = 128


class Installation:
    """This installation among others. For one event loop."""

    def __init__(self, name: str, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self.manager = f"{_MANAGER}:{name}"[:_MANAGER_CHARACTERS]
        self._grace = grace_seconds
        self._met: LRUCache[ProviderRef, tuple[Any, float]] = LRUCache(_REMEMBERED)

    def leaves(self, ref: ProviderRef, live: Manifest, seen: int | None, *, served: bool) -> float | None:
        """For how many seconds a live Provider's status is left as it is; None where ours may be written.

        `seen` is the generation that the status is about. In a namespace that we serve, only what another installation
        that serves it too wrote stands; elsewhere, what any other wrote, and it has some time to do so.
        """
        writer = _last_writer(live)
        name, at = writer or ("", None)
        if name == self.manager:
            return None
        if served and (name in ("", _MANAGER) or _says_not_served(live)):
            return None  # nobody's, what release 0.1 wrote, or said by who does not serve it
        if writer is None or seen != live["metadata"].get("generation"):
            return self._grace_left(ref, live)
        if not served:
            return STANDS_SECONDS
        left = STANDS_SECONDS - (datetime.now(UTC) - (at or datetime.now(UTC))).total_seconds()
        return left if left > 0 else None

    def _grace_left(self, ref: ProviderRef, live: Manifest) -> float | None:
        edition, now = (live["metadata"].get("uid"), live["metadata"].get("generation")), _now()
        known, since = self._met.get(ref) or (None, 0.0)
        if known != edition:
            since = now
            self._met[ref] = (edition, now)
        left = since + self._grace - now
        return left if left > 0 else None


def _now() -> float:
    return asyncio.get_running_loop().time()


def _last_writer(live: Manifest) -> tuple[str, datetime] | None:
    """The installation that last wrote the status or its annotation, and when."""
    return max(_writers(live), key=lambda writer: writer[1], default=None)


def _writers(live: Manifest) -> Iterator[tuple[str, datetime]]:
    for entry in live["metadata"].get("managedFields") or []:
        name = str(entry.get("manager"))
        annotations = entry.get("fieldsV1", {}).get("f:metadata", {}).get("f:annotations", {})
        if name.partition(":")[0] != _MANAGER:
            continue
        if entry.get("subresource") == "status" or f"f:{STATUS_ANNOTATION}" in annotations:
            yield name, _time(entry)


def _time(entry: Mapping[str, Any]) -> datetime:
    try:
        return datetime.fromisoformat(str(entry.get("time")))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _says_not_served(live: Manifest) -> bool:
    conditions = live.get("status", {}).get("conditions") or []
    return any(each.get("reason") == Reason.NAMESPACE_NOT_SERVED for each in conditions)
