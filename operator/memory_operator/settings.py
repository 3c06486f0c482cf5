"""Settings, read once when a process starts. Nothing here is read at import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

AuthMode = Literal["kubernetes", "tokens", "none"]
OnUnconsentedChange = Literal["Hold", "Exit"]


@dataclass(frozen=True, slots=True)
class CredentialAllowList:
    """Which of a process's own variables and files a Provider may name.

    Whoever may create a Provider chooses where its key is sent; without this list `envVar: DATABASE_URL` would
    send the database's password to a stranger.
    """

    env_vars: frozenset[str] = frozenset()
    """Names that `spec.credential.envVar` may have."""
    directory: Path | None = None
    """`spec.credential.filePath` must lead below this folder; None refuses all of them."""
    withheld_secrets: frozenset[str] = frozenset()
    """Secrets, as namespace/name, that hold what is ours, such as the master key: no Provider may have them sent."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker does beside what Providers say."""

    fills_at_once: int = 8
    """Spaces that are filled at a time, one for each connection of the pool at most; others take turns."""
    ledger_days: int = 90
    """Days for which each paid call is kept by itself."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the operator and the worker need beside a database."""

    on_unconsented_change: OnUnconsentedChange = "Hold"
    """What an unconsented change does: keep serving, or end the process with exit code 1."""
    credentials: CredentialAllowList = field(default_factory=CredentialAllowList)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The process's environment as it was at start, for `spec.credential.envVar`."""
    listing_seconds: float = 60.0
    """How often all Providers are listed, to see those that went away."""
    consent_poll_seconds: float = 5.0
    """How often consent is looked for where a notification was lost."""
    in_pod: bool = False
    """Whether this process runs in a pod, where a loopback base URL leads nowhere."""
