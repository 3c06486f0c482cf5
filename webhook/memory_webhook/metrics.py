"""What one webhook process counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 3.0)


class WebhookMetrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reviews = Counter(
            "memory_webhook_reviews",
            "AdmissionReviews answered, all of them with allowed: true, by result: "
            "ok, not_a_review, too_large, too_slow, busy, failed.",
            ["result"],
            registry=self.registry,
        )
        self.warnings = Counter("memory_webhook_warnings", "Warnings sent.", registry=self.registry)
        self.seconds = Histogram(
            "memory_webhook_review_seconds",
            "Time from the first byte of a review's body to its answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.tls_loads = Counter(
            "memory_webhook_tls_loads",
            "Attempts to load the certificate and its key, by result: ok, failed.",
            ["result"],
            registry=self.registry,
        )
        self.tls_stale = Gauge(
            "memory_webhook_tls_stale",
            "1 while the files hold a pair that cannot be used and an older one is served.",
            registry=self.registry,
        )
        self.tls_expiry = Gauge(
            "memory_webhook_certificate_expiry_timestamp_seconds",
            "When the certificate that is served ends, in seconds since 1970.",
            registry=self.registry,
        )
        for result in ("ok", "not_a_review", "too_large", "too_slow", "busy", "failed"):
            self.reviews.labels(result)
        for result in ("ok", "failed"):
            self.tls_loads.labels(result)
