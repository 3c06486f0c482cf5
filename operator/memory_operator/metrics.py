"""Prometheus metrics of every process; names are stable. No label carries a tenant or a text."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECONCILES = Counter("memory_reconciles_total", "Reconciles of Providers by outcome.", ["outcome"])
RECONCILE_SECONDS = Histogram("memory_reconcile_seconds", "Time that one reconcile took.")
HELD_CHANGES = Gauge("memory_held_changes", "Changes that wait for consent, as this operator sees them.")
VECTORS_DISCARDED = Counter("memory_vectors_discarded_total", "Vectors discarded by consented changes.")

FILL_VECTORS = Counter("memory_fill_vectors_total", "Vectors that fills have stored.")
FILL_COPIED = Counter("memory_fill_copied_total", "Vectors that fills took from an equal text instead of paying.")
FILL_TOKENS = Counter("memory_fill_tokens_total", "Tokens that vendors counted for fills.")
FILL_QUARANTINED = Counter("memory_fill_quarantined_total", "Chunks that fills put into quarantine.")
FILL_TROUBLES = Counter("memory_fill_troubles_total", "Calls of fills that gave no vectors, by kind.", ["kind"])
FILL_CALLS_ALLOWED = Gauge(
    "memory_fill_calls_allowed", "Calls in flight that the pace of a Provider allows.", ["provider"]
)
FILL_CALLS_IN_FLIGHT = Gauge("memory_fill_calls_in_flight", "Calls of fills that are in flight.", ["provider"])
FILL_ROWS_IN_HAND = Gauge("memory_fill_rows_in_hand", "Chunks that were sent and are not committed yet.", ["provider"])
FILL_STAGE_SECONDS = Histogram("memory_fill_stage_seconds", "Time of one step: read, call, write.", ["stage"])
FILL_LEASES_LOST = Counter("memory_fill_leases_lost_total", "Ranges that other workers took over from this one.")
CALLS = Counter("memory_embedder_calls_total", "Calls to vendors by purpose and how they ended.", ["purpose", "ending"])
CIRCUIT_OPEN = Gauge("memory_embedder_circuit_open", "1 while calls to a Provider's vendor rest.", ["provider"])
LEDGER_FAILURES = Counter("memory_ledger_failures_total", "Calls whose end could not be written into the ledger.")
JOBS_PAUSED = Gauge("memory_jobs_paused", "Jobs that are paused, by what for.", ["paused_for"])
JOB_CHUNKS = Gauge(
    "memory_job_chunks", "Chunks of a Provider's open job, by state: total, done, quarantined.", ["provider", "state"]
)
JOB_RATE = Gauge("memory_job_chunks_per_second", "Rate of a Provider's open job since its first call.", ["provider"])
JOB_ETA_SECONDS = Gauge("memory_job_eta_seconds", "Seconds that a Provider's open job has left.", ["provider"])
JOB_TOKENS = Gauge("memory_job_tokens", "Tokens that a Provider's open job has used.", ["provider"])
JOB_COST = Gauge("memory_job_cost_dollars", "US dollars that a Provider's open job has cost.", ["provider"])
PENDING = Gauge("memory_pending_chunks", "Chunks that wait for a vector, in fills and outside.")
LOOP_LAG = Gauge("memory_worker_loop_lag_seconds", "Longest delay of the worker's event loop in the last minute.")
SPACES_COMPLETED = Counter("memory_spaces_completed_total", "Fills that were completed.")

HTTP_REQUESTS = Counter("memory_http_requests_total", "Requests by route and status.", ["method", "route", "status"])
HTTP_SECONDS = Histogram("memory_http_request_seconds", "Time to answer, by route.", ["method", "route"])
