"""The options of each command. A field is the option on the command line, its variable and its row in the docs.

A tuple is given as one text with commas between. What is not `Annotated` is no option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from memory_operator.settings import AuthMode, CredentialAllowList, EngineSettings, OnUnconsentedChange

if TYPE_CHECKING:
    from memory_operator.store.db.address import DatabaseAddress

Kubeconfig = Annotated[
    Path | None, Option(envvar="MEMORY_KUBECONFIG", help="A kubeconfig file; the pod's ServiceAccount when left out.")
]
Namespaces = Annotated[
    tuple[str, ...],
    Option(envvar="MEMORY_NAMESPACES", help="Served namespaces, separated by commas; the own one if empty."),
]
OnUnconsented = Annotated[
    OnUnconsentedChange,
    Option(envvar="MEMORY_ON_UNCONSENTED_CHANGE", help="Keep serving (Hold), or exit 1 with the message (Exit)."),
]
WhoMayCall = Annotated[AuthMode, Option(envvar="MEMORY_AUTH_MODE", help="Who may call.")]
TokensFile = Annotated[Path | None, Option(envvar="MEMORY_TOKENS_FILE", help="Tokens of auth mode tokens.")]
CredentialVariables = Annotated[
    tuple[str, ...],
    Option(envvar="MEMORY_CREDENTIAL_ENV_VARS", help="Variables that spec.credential.envVar may name, by commas."),
]
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - kubelet, Prometheus and callers come from outside the pod


@dataclass(frozen=True, kw_only=True)
class Options:
    """What each command has beside its options."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The process's variables, as they were when it started."""


@dataclass(frozen=True, kw_only=True)
class DatabaseOptions(Options):
    """Where the database is."""

    database_url: Annotated[
        str,
        Option(
            envvar="MEMORY_DATABASE_URL", help="PostgreSQL 15+ with pgvector; this or the file.", show_default=False
        ),
    ] = field(default="", repr=False)
    database_url_file: Annotated[
        Path | None, Option(envvar="MEMORY_DATABASE_URL_FILE", help="File with that URL, read for each new connection.")
    ] = None

    @cached_property
    def database(self) -> DatabaseAddress:
        """The database's address: one for all parts of the process, which share what worked last."""
        from memory_operator.store.db.address import DatabaseAddress

        return DatabaseAddress(self.database_url, self.database_url_file)


@dataclass(frozen=True, kw_only=True)
class CredentialOptions(Options):
    """Where Providers' credentials may come from, beside Secrets."""

    credential_env_vars: CredentialVariables = ()
    credential_directory: Annotated[
        Path | None,
        Option(envvar="MEMORY_CREDENTIAL_DIRECTORY", help="Folder that spec.credential.filePath may lead into."),
    ] = None
    withheld_secrets: Annotated[
        tuple[str, ...],
        Option(
            envvar="MEMORY_WITHHELD_SECRETS", help="Secrets that no Provider may name, as namespace/name, by commas."
        ),
    ] = ()

    def credentials(self) -> CredentialAllowList:
        """What Providers may name."""
        return CredentialAllowList(
            frozenset(self.credential_env_vars), self.credential_directory, frozenset(self.withheld_secrets)
        )


@dataclass(frozen=True, kw_only=True)
class ProcessOptions(CredentialOptions, DatabaseOptions):
    """The options that processes share."""

    master_key_file: Annotated[
        Path, Option(envvar="MEMORY_MASTER_KEY_FILE", help="File with the 32-byte master key, hex or base64.")
    ]
    database_connections: Annotated[
        int, Option(envvar="MEMORY_DATABASE_CONNECTIONS", min=2, max=500, help="Database connections at most.")
    ] = 8
    kubeconfig: Kubeconfig = None
    probe_host: Annotated[str, Option(envvar="MEMORY_PROBE_HOST", help="Address of /livez, /readyz, /metrics.")] = (
        ANY_ADDRESS
    )
    probe_port: Annotated[
        int, Option(envvar="MEMORY_PROBE_PORT", min=1, max=65535, help="Port of /livez, /readyz, /metrics.")
    ] = 8081

    def engine_settings(self) -> EngineSettings:
        """What the engine needs of them."""
        return EngineSettings(
            credentials=self.credentials(),
            environment=self.environment,
            in_pod="KUBERNETES_SERVICE_HOST" in self.environment,
        )


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(ProcessOptions):
    """Options of `worker`."""

    fills_at_once: Annotated[
        int,
        Option(
            envvar="MEMORY_FILLS_AT_ONCE",
            min=1,
            max=64,
            help="Spaces filled at a time, one for each database connection at most; others take turns.",
        ),
    ] = 8
    ledger_days: Annotated[
        int,
        Option(
            envvar="MEMORY_LEDGER_DAYS",
            min=1,
            max=3650,
            help="Days for which each paid call is kept by itself; older ones are added up by day.",
        ),
    ] = 90


@dataclass(frozen=True, kw_only=True)
class OperatorOptions(WorkerOptions):
    """Options of `run`."""

    namespaces: Namespaces = ()
    installation: Annotated[
        str,
        Option(envvar="MEMORY_INSTALLATION", help="Name under which statuses are written; the own namespace if empty."),
    ] = ""
    on_unconsented_change: OnUnconsented = "Hold"
    activate_policy: Annotated[
        str,
        Option(
            envvar="MEMORY_ACTIVATE_POLICY",
            help="ValidatingAdmissionPolicy that guards the annotation memory-operator/activate; without one it is"
            " refused.",
        ),
    ] = ""
    fill: Annotated[bool, Option(envvar="MEMORY_FILL", help="Fill in this process too; no worker is needed then.")] = (
        True
    )

    def engine_settings(self) -> EngineSettings:
        """What the engine needs of them."""
        return replace(super().engine_settings(), on_unconsented_change=self.on_unconsented_change)


@dataclass(frozen=True, kw_only=True)
class ApiOptions(ProcessOptions):
    """Options of `api`."""

    namespaces: Namespaces = ()
    host: Annotated[str, Option(envvar="MEMORY_HOST", help="Address to listen on.")] = ANY_ADDRESS
    port: Annotated[int, Option(envvar="MEMORY_PORT", min=1, max=65535, help="Port to listen on.")] = 8080
    workers: Annotated[
        int,
        Option(
            envvar="MEMORY_API_WORKERS",
            min=1,
            max=64,
            help="Processes that serve the port; each has database connections of its own.",
        ),
    ] = 1
    auth_mode: WhoMayCall = "kubernetes"
    tokens_file: TokensFile = None


@dataclass(frozen=True, kw_only=True)
class CombinedOptions(OperatorOptions, ApiOptions):
    """Options of a process that is operator, worker and API at once."""


@dataclass(frozen=True, kw_only=True)
class DevOptions(Options):
    """Options of `dev`."""

    port: Annotated[int, Option(min=1, max=65535, help="Port of the API, on loopback.")] = 8080
    data: Annotated[Path, Option(help="Folder that keeps everything.")] = Path(".memory")
    providers: Annotated[
        Path | None, Option(help="Folder of manifests; DATA/providers when left out.", show_default=False)
    ] = None
    config: Annotated[
        Path | None,
        Option(
            help="Take Providers from Memory Layer's TOML instead; activations are written into it.", show_default=False
        ),
    ] = None
    database_url: Annotated[
        str | None,
        Option(envvar="MEMORY_DATABASE_URL", help="Use this database instead of the embedded one.", show_default=False),
    ] = field(default=None, repr=False)
    kubeconfig: Annotated[Path | None, Option(help="Take Providers from this cluster instead of the folder.")] = None
    namespaces: Namespaces = ()
    on_unconsented_change: OnUnconsented = "Hold"
    auth_mode: WhoMayCall = "none"
    tokens_file: TokensFile = None
    sample: Annotated[bool, Option(help="Start with a sample Provider and sample memories.")] = False
    credential_env_vars: CredentialVariables = ()


@dataclass(frozen=True, kw_only=True)
class MigrateOptions(DatabaseOptions):
    """Options of `migrate`."""

    wait_seconds: Annotated[
        float, Option(envvar="MEMORY_MIGRATE_WAIT_SECONDS", min=0, help="How long to wait for the database.")
    ] = 0
    api_role: Annotated[
        str,
        Option(envvar="MEMORY_API_ROLE", help="Database role of the API, which gets what it may do: rows, no schema."),
    ] = ""
    only_wait: Annotated[
        bool, Option("--only-wait", help="Change nothing: wait until another process has migrated.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class CheckOptions(CredentialOptions, DatabaseOptions):
    """Options of `check`."""

    deep: Annotated[
        bool, Option("--deep", help="Look for all that is wrong, as memory doctor does, without the API.")
    ] = False
    fix: Annotated[
        bool,
        Option(
            "--fix",
            help="With --deep, mend what is safe and costs nothing: free ranges that a dead worker left, drop indexes"
            " that a build left incomplete.",
        ),
    ] = False
    calls: Annotated[
        bool, Option("--calls/--no-calls", help="With --deep, call the embedder of each Provider once.")
    ] = True
    master_key_file: Annotated[
        Path | None,
        Option(envvar="MEMORY_MASTER_KEY_FILE", help="With --deep, the master key to check.", show_default=False),
    ] = None

    providers: Annotated[Path | None, Option(help="Folder of manifests to compare with.", show_default=False)] = None
    config: Annotated[Path | None, Option(help="Memory Layer's TOML to compare with instead.", show_default=False)] = (
        None
    )
    kubeconfig: Kubeconfig = None
    namespaces: Namespaces = ()
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False
