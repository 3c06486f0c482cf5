"""Prometheus metrics of one process; names are stable. No label carries a tenant or a text."""

from __future__ import annotations

from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)


class Metrics:
    """What one process counts, in a registry of its own. The process's stores carry it to whoever counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        for standard in (ProcessCollector, PlatformCollector, GCCollector):
            standard(registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)

        self.reconciles = counter("memory_reconciles_total", "Reconciles of Providers by outcome.", ["outcome"])
        self.reconcile_seconds = histogram("memory_reconcile_seconds", "Time that one reconcile took.")
        self.held_changes = gauge("memory_held_changes", "Changes that wait for consent, as this operator sees them.")
        self.providers_listed_at = gauge(
            "memory_providers_listed_timestamp_seconds",
            "When the Providers of a served namespace were last listed, or first tried.",
            ["served_namespace"],
        )
        self.model_retired = gauge(
            "memory_model_retired", "1 while a vendor has a Provider's model no more.", ["provider"]
        )
        drifted = "1 while a Provider's model makes other vectors than it did."
        self.model_drifted = gauge("memory_model_drifted", drifted, ["provider"])
        self.vectors_discarded = counter("memory_vectors_discarded_total", "Vectors discarded by consented changes.")

        by_provider = ["provider"]
        self.fill_vectors = counter("memory_fill_vectors_total", "Vectors that fills have stored.")
        self.fill_copied = counter("memory_fill_copied_total", "Vectors that fills copied from an equal text, unpaid.")
        self.fill_tokens = counter("memory_fill_tokens_total", "Tokens that vendors counted for fills.")
        self.fill_quarantined = counter("memory_fill_quarantined_total", "Chunks that fills put into quarantine.")
        self.fill_troubles = counter("memory_fill_troubles_total", "Calls of fills that failed, by error.", ["kind"])
        self.fill_calls_allowed = gauge("memory_fill_calls_allowed", "Concurrency limit of fills.", by_provider)
        self.fill_calls_in_flight = gauge("memory_fill_calls_in_flight", "Calls of fills in flight.", by_provider)
        self.fill_rows_in_hand = gauge("memory_fill_rows_in_hand", "Chunks sent, not committed yet.", by_provider)
        self.fill_stage_seconds = histogram("memory_fill_stage_seconds", "Time of a read, call or write.", ["stage"])
        self.fill_leases_lost = counter("memory_fill_leases_lost_total", "Ranges that other workers took over.")

        self.calls = counter(
            "memory_embedder_calls_total", "Calls to vendors by how they ended.", ["purpose", "ending"]
        )
        self.circuit_open = gauge("memory_embedder_circuit_open", "1 while a Provider's circuit is open.", by_provider)
        self.ledger_failures = counter("memory_ledger_failures_total", "Calls whose end the ledger could not store.")
        retries = "Batches of the ledger's rows of queries that could not be written yet, and are tried again."
        self.ledger_retries = counter("memory_ledger_retries_total", retries)

        self.jobs_paused = gauge("memory_jobs_paused", "Jobs that are paused, by reason.", ["paused_for"])
        states = "Chunks of a Provider's open job, by state: total, done, quarantined."
        self.job_chunks = gauge("memory_job_chunks", states, ["provider", "state"])
        self.job_rate = gauge("memory_job_chunks_per_second", "Rate of an open job since its first call.", by_provider)
        self.job_eta_seconds = gauge("memory_job_eta_seconds", "Seconds that an open job has left.", by_provider)
        self.job_tokens = gauge("memory_job_tokens", "Tokens that an open job has used.", by_provider)
        self.job_cost = gauge("memory_job_cost_dollars", "US dollars that an open job has cost.", by_provider)
        self.pending = gauge("memory_pending_chunks", "Chunks that wait for a vector, in fills and outside.")
        unindexed = "Vectors of the active space that are in no index yet: each query compares them one by one."
        self.unindexed = gauge("memory_unindexed_vectors", unindexed)
        self.loop_lag = gauge("memory_worker_loop_lag_seconds", "Longest delay of the worker's event loop in a minute.")
        self.spaces_completed = counter("memory_spaces_completed_total", "Fills that were completed.")

        self.http_requests = counter("memory_http_requests_total", "Requests.", ["method", "route", "status"])
        self.http_seconds = histogram("memory_http_request_seconds", "Time to answer, by route.", ["method", "route"])

    async def text(self) -> bytes:
        """All of them, in Prometheus's format."""
        return generate_latest(self.registry)
