"""What a process was told on its command line and in its environment, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from memory_operator.settings import AuthMode, CredentialAllowList, EngineSettings, OnUnconsentedChange
from memory_operator.store.db.address import DatabaseAddress


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """The options that processes share."""

    database: DatabaseAddress
    master_key_file: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    kubeconfig: Path | None = None
    namespaces: tuple[str, ...] = ()
    """Served namespaces."""
    on_unconsented_change: OnUnconsentedChange = "Hold"
    credential_env_vars: tuple[str, ...] = ()
    credential_directory: Path | None = None
    withheld_secrets: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8080
    probe_host: str = "0.0.0.0"  # noqa: S104 - kubelet and Prometheus come from outside the pod
    probe_port: int = 8081
    auth_mode: AuthMode = "kubernetes"
    tokens_file: Path | None = None

    def engine_settings(self) -> EngineSettings:
        """What the engine needs of them."""
        return EngineSettings(
            on_unconsented_change=self.on_unconsented_change,
            credentials=CredentialAllowList(
                frozenset(self.credential_env_vars), self.credential_directory, frozenset(self.withheld_secrets)
            ),
            environment=self.environment,
            in_pod="KUBERNETES_SERVICE_HOST" in self.environment,
        )
