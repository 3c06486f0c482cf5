"""Which served namespaces could be listed, and when: for the log, /readyz and the metric."""

from __future__ import annotations

import time

from memory_operator.engine.ports.sources import Listing
from memory_operator.errors import SourceUnavailable
from memory_operator.logs import get_logger
from memory_operator.metrics import Metrics

log = get_logger(__name__)


class Listings:
    """Remembers of each served namespace how its last listing ended."""

    def __init__(self, metrics: Metrics) -> None:
        self._listed_at = metrics.providers_listed_at
        self._at: dict[str, float] = {}
        self._failures: dict[str, SourceUnavailable] = {}

    def note(self, listing: Listing, retry_seconds: float) -> None:
        """Take in a listing, and log what it changed."""
        now = time.time()
        self._at = dict.fromkeys(listing.failures, now) | self._at | dict.fromkeys(listing.namespaces, now)
        for namespace, at in self._at.items():
            self._listed_at.labels(namespace).set(at)
        for namespace in listing.namespaces:
            if self._failures.pop(namespace, None):
                log.info("Providers of namespace %s can be listed again", namespace)
        for namespace, failure in listing.failures.items():
            known = self._failures.get(namespace)
            if known is None or known.message != failure.message:
                log.warning(
                    "Providers of namespace %s cannot be listed, retrying in %g s: %s",
                    namespace,
                    retry_seconds,
                    failure,
                )
            self._failures[namespace] = failure

    def unlisted(self) -> str | None:
        """The namespaces that could not be listed last time, for /readyz; None when there are none."""
        lines = [
            f"memory: namespace {name}: Providers cannot be listed: {self._failures[name].message}"
            for name in sorted(self._failures)
        ]
        return "\n".join(lines) or None
