"""One call to a vendor: credential, circuit breaker, ledger row."""
