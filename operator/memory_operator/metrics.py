"""Prometheus metrics of every process; names are stable. No label carries a tenant or a text."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECONCILES = Counter("memory_reconciles_total", "Reconciles of Providers by outcome.", ["outcome"])
RECONCILE_SECONDS = Histogram("memory_reconcile_seconds", "Time that one reconcile took.")
HELD_CHANGES = Gauge("memory_held_changes", "Changes that wait for consent, as this operator sees them.")
VECTORS_DISCARDED = Counter("memory_vectors_discarded_total", "Vectors discarded by consented changes.")

FILL_VECTORS = Counter("memory_fill_vectors_total", "Vectors that fills have stored.")
FILL_TOKENS = Counter("memory_fill_tokens_total", "Tokens that vendors counted for fills.")
FILL_QUARANTINED = Counter("memory_fill_quarantined_total", "Chunks that fills put into quarantine.")
FILL_TROUBLES = Counter("memory_fill_troubles_total", "Calls of fills that gave no vectors, by kind.", ["kind"])
SPACES_COMPLETED = Counter("memory_spaces_completed_total", "Fills that were completed.")

HTTP_REQUESTS = Counter("memory_http_requests_total", "Requests by route and status.", ["method", "route", "status"])
HTTP_SECONDS = Histogram("memory_http_request_seconds", "Time to answer, by route.", ["method", "route"])
