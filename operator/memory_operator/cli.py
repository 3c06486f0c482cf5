"""The `memory-operator` command: options in, processes started, errors told with the next step."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from memory_operator import traces
from memory_operator.contract.crd import render_crd
from memory_operator.errors import ConfigurationError, MemoryOperatorError, NeedsConsent
from memory_operator.logs import LogFormat, get_logger, set_up_logs
from memory_operator.processes import one_shot
from memory_operator.processes.api import run_api_process
from memory_operator.processes.dev import DevOptions, run_dev
from memory_operator.processes.operator import run_operator, run_worker_process
from memory_operator.processes.options import ProcessOptions
from memory_operator.processes.runtime import signals_stop
from memory_operator.settings import AuthMode, OnUnconsentedChange
from memory_operator.store.db.address import DatabaseAddress

log = get_logger(__name__)

T = TypeVar("T")

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_HELD = 7

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Owns the embedding model of a pgvector memory store: declared as a Provider, never changed without consent.",
)

DatabaseUrl = Annotated[
    str,
    typer.Option(
        envvar="MEMORY_DATABASE_URL", help="PostgreSQL 15+ with pgvector; this or the file.", show_default=False
    ),
]
DatabaseUrlFile = Annotated[
    Path | None,
    typer.Option(envvar="MEMORY_DATABASE_URL_FILE", help="File with that URL, read for each new connection."),
]
MasterKeyFile = Annotated[
    Path, typer.Option(envvar="MEMORY_MASTER_KEY_FILE", help="File with the 32-byte master key, hex or base64.")
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(envvar="MEMORY_KUBECONFIG", help="A kubeconfig file; the pod's ServiceAccount when left out."),
]
Namespaces = Annotated[
    str, typer.Option(envvar="MEMORY_NAMESPACES", help="Served namespaces, separated by commas; the own one if empty.")
]
OnUnconsented = Annotated[
    OnUnconsentedChange,
    typer.Option(envvar="MEMORY_ON_UNCONSENTED_CHANGE", help="Keep serving (Hold), or exit 1 with the message (Exit)."),
]
ProbeHost = Annotated[str, typer.Option(envvar="MEMORY_PROBE_HOST", help="Address of /livez, /readyz, /metrics.")]
ProbePort = Annotated[
    int, typer.Option(envvar="MEMORY_PROBE_PORT", min=1, max=65535, help="Port of /livez, /readyz, /metrics.")
]
CredentialEnvVars = Annotated[
    str,
    typer.Option(
        envvar="MEMORY_CREDENTIAL_ENV_VARS", help="Variables that spec.credential.envVar may name, by commas."
    ),
]
CredentialDirectory = Annotated[
    Path | None,
    typer.Option(envvar="MEMORY_CREDENTIAL_DIRECTORY", help="Folder that spec.credential.filePath may lead into."),
]
WithheldSecrets = Annotated[
    str,
    typer.Option(
        envvar="MEMORY_WITHHELD_SECRETS", help="Secrets that no Provider may name, as namespace/name, by commas."
    ),
]
AnyAddress = "0.0.0.0"  # noqa: S104 - kubelet and Prometheus reach the probes from outside the pod


@app.callback()
def set_up(
    log_format: Annotated[
        LogFormat, typer.Option(envvar="MEMORY_LOG_FORMAT", help="Text for people, JSON for machines.")
    ] = "text",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is going on in detail.")] = False,
) -> None:
    """Owns the embedding model of a pgvector memory store."""
    set_up_logs(log_format, logging.DEBUG if verbose else logging.INFO)


@app.command()
def run(
    master_key_file: MasterKeyFile,
    database_url: DatabaseUrl = "",
    database_url_file: DatabaseUrlFile = None,
    kubeconfig: Kubeconfig = None,
    namespaces: Namespaces = "",
    on_unconsented_change: OnUnconsented = "Hold",
    fill: Annotated[
        bool, typer.Option(envvar="MEMORY_FILL", help="Fill in this process too; no worker is needed then.")
    ] = True,
    probe_host: ProbeHost = AnyAddress,
    probe_port: ProbePort = 8081,
    credential_env_vars: CredentialEnvVars = "",
    credential_directory: CredentialDirectory = None,
    withheld_secrets: WithheldSecrets = "",
) -> None:
    """Watch Providers of a cluster: the gate, status, Events."""
    options = ProcessOptions(
        database=DatabaseAddress(database_url, database_url_file),
        master_key_file=master_key_file,
        environment=dict(os.environ),
        kubeconfig=kubeconfig,
        namespaces=_listed(namespaces),
        on_unconsented_change=on_unconsented_change,
        credential_env_vars=_listed(credential_env_vars),
        credential_directory=credential_directory,
        withheld_secrets=_listed(withheld_secrets),
        probe_host=probe_host,
        probe_port=probe_port,
    )
    _run_until_stopped("operator", lambda stop: run_operator(options, stop, fill=fill))


@app.command()
def worker(
    master_key_file: MasterKeyFile,
    database_url: DatabaseUrl = "",
    database_url_file: DatabaseUrlFile = None,
    kubeconfig: Kubeconfig = None,
    probe_host: ProbeHost = AnyAddress,
    probe_port: ProbePort = 8081,
    credential_env_vars: CredentialEnvVars = "",
    credential_directory: CredentialDirectory = None,
    withheld_secrets: WithheldSecrets = "",
) -> None:
    """Fill spaces, beside any number of other workers."""
    options = ProcessOptions(
        database=DatabaseAddress(database_url, database_url_file),
        master_key_file=master_key_file,
        environment=dict(os.environ),
        kubeconfig=kubeconfig,
        credential_env_vars=_listed(credential_env_vars),
        credential_directory=credential_directory,
        withheld_secrets=_listed(withheld_secrets),
        probe_host=probe_host,
        probe_port=probe_port,
    )
    _run_until_stopped("worker", lambda stop: run_worker_process(options, stop))


@app.command()
def api(
    master_key_file: MasterKeyFile,
    database_url: DatabaseUrl = "",
    database_url_file: DatabaseUrlFile = None,
    kubeconfig: Kubeconfig = None,
    namespaces: Namespaces = "",
    host: Annotated[str, typer.Option(envvar="MEMORY_HOST", help="Address to listen on.")] = AnyAddress,
    port: Annotated[int, typer.Option(envvar="MEMORY_PORT", min=1, max=65535, help="Port to listen on.")] = 8080,
    auth_mode: Annotated[AuthMode, typer.Option(envvar="MEMORY_AUTH_MODE", help="Who may call.")] = "kubernetes",
    tokens_file: Annotated[
        Path | None, typer.Option(envvar="MEMORY_TOKENS_FILE", help="Tokens of auth mode tokens.")
    ] = None,
    probe_host: ProbeHost = AnyAddress,
    probe_port: ProbePort = 8081,
    credential_env_vars: CredentialEnvVars = "",
    credential_directory: CredentialDirectory = None,
    withheld_secrets: WithheldSecrets = "",
) -> None:
    """Serve the memory API and the admin API."""
    options = ProcessOptions(
        database=DatabaseAddress(database_url, database_url_file),
        master_key_file=master_key_file,
        environment=dict(os.environ),
        kubeconfig=kubeconfig,
        namespaces=_listed(namespaces),
        host=host,
        port=port,
        auth_mode=auth_mode,
        tokens_file=tokens_file,
        credential_env_vars=_listed(credential_env_vars),
        credential_directory=credential_directory,
        withheld_secrets=_listed(withheld_secrets),
        probe_host=probe_host,
        probe_port=probe_port,
    )
    _run_until_stopped("api", lambda stop: run_api_process(options, stop))


@app.command()
def dev(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the API, on loopback.")] = 8080,
    data: Annotated[Path, typer.Option(help="Folder that keeps everything.")] = Path(".memory"),
    providers: Annotated[
        Path | None, typer.Option(help="Folder of manifests; DATA/providers when left out.", show_default=False)
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="Use this database instead of the embedded one.", show_default=False)
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Take Providers from this cluster instead of the folder.")
    ] = None,
    namespaces: Namespaces = "",
    on_unconsented_change: OnUnconsented = "Hold",
    auth_mode: Annotated[AuthMode, typer.Option(envvar="MEMORY_AUTH_MODE", help="Who may call.")] = "none",
    tokens_file: Annotated[
        Path | None, typer.Option(envvar="MEMORY_TOKENS_FILE", help="Tokens of auth mode tokens.")
    ] = None,
    sample: Annotated[bool, typer.Option(help="Start with a sample Provider and sample memories.")] = False,
    credential_env_vars: CredentialEnvVars = "",
) -> None:
    """Run all of it in one process on this machine: embedded PostgreSQL, local model, no key, no network."""
    options = DevOptions(
        port=port,
        data=data,
        providers=providers,
        database_url=database_url,
        kubeconfig=kubeconfig,
        namespaces=_listed(namespaces),
        on_unconsented_change=on_unconsented_change,
        auth_mode=auth_mode,
        tokens_file=tokens_file,
        sample=sample,
        credential_env_vars=_listed(credential_env_vars),
        environment=dict(os.environ),
    )
    _run_until_stopped("dev", lambda stop: run_dev(options, stop))


@app.command()
def migrate(
    database_url: DatabaseUrl = "",
    database_url_file: DatabaseUrlFile = None,
    wait_seconds: Annotated[
        float, typer.Option(envvar="MEMORY_MIGRATE_WAIT_SECONDS", min=0, help="How long to wait for the database.")
    ] = 0,
) -> None:
    """Bring a database to this release's schema. Safe to run at any time, by any number of processes."""
    for name in _run(one_shot.run_migrate(DatabaseAddress(database_url, database_url_file), wait_seconds)):
        typer.echo(f"migrated {name}")
    typer.echo("the schema is up to date")


@app.command()
def check(
    database_url: DatabaseUrl = "",
    database_url_file: DatabaseUrlFile = None,
    providers: Annotated[
        Path | None, typer.Option(help="Folder of manifests to compare with.", show_default=False)
    ] = None,
    kubeconfig: Kubeconfig = None,
    namespaces: Namespaces = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare Providers with the database and change nothing: exit 0 settled, 7 held, 1 when one cannot be compared."""
    options = ProcessOptions(
        database=DatabaseAddress(database_url, database_url_file),
        master_key_file=Path(),
        environment=dict(os.environ),
        kubeconfig=kubeconfig,
        namespaces=_listed(namespaces),
    )
    found = _run(one_shot.run_check(options, providers))
    if as_json:
        typer.echo(json.dumps([{"provider": c.provider, "outcome": c.outcome, "message": c.message} for c in found]))
    else:
        for comparison in found:
            typer.echo(f"{comparison.provider}: {comparison.outcome}: {comparison.message}")
        if not found:
            typer.echo("no embedding Provider was found")
    outcomes = {comparison.outcome for comparison in found}
    raise typer.Exit(EXIT_HELD if "held" in outcomes else EXIT_FAILED if "error" in outcomes else 0)


@app.command()
def crds() -> None:
    """Print the CustomResourceDefinition: memory-operator crds | kubectl apply -f -"""
    typer.echo(render_crd(), nl=False)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _run_until_stopped(name: str, process: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run a process until SIGTERM or SIGINT, and send its traces where they are wanted."""

    async def body() -> None:
        # The signals first: the last traces take a moment, in which a signal must not kill.
        async with signals_stop() as stop:
            with traces.exported(name, os.environ):
                await process(stop)

    _run(body())


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run something to its end; an error that we know is told in two lines, and becomes the exit code."""
    try:
        return asyncio.run(work)
    except NeedsConsent as error:
        code = EXIT_FAILED
        told = error.message
        hint = ""
    except MemoryOperatorError as error:
        code = EXIT_USAGE if isinstance(error, ConfigurationError) else EXIT_FAILED
        told, hint = error.message, error.hint
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    typer.echo(told if told.startswith("memory:") else f"error: {told}", err=True)
    if hint:
        typer.echo(f"hint: {hint}", err=True)
    raise typer.Exit(code)


def main() -> None:
    """Entry point of `memory-operator`."""
    app(prog_name="memory-operator")
