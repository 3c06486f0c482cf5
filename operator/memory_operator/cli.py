"""The `memory-operator` command: options in, processes started, errors told with the next step.

Each command imports its process when it is run: `--help` needs none of them.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from memory_operator.errors import ConfigurationError, MemoryOperatorError, NeedsConsent
from memory_operator.logs import LogFormat, set_up_logs
from memory_operator.processes.options import (
    ApiOptions,
    CheckOptions,
    DevOptions,
    MigrateOptions,
    OperatorOptions,
    Options,
    WorkerOptions,
)

if TYPE_CHECKING:
    import asyncio

    from memory_operator.engine.admin.doctor.report import Finding
    from memory_operator.processes.check import Checked

T = TypeVar("T")
C = TypeVar("C", bound=Options)

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_HELD = 7

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Owns the embedding model of a pgvector memory store: declared as a Provider, never changed without consent.",
)


@app.callback()
def set_up(
    log_format: Annotated[
        LogFormat, typer.Option(envvar="MEMORY_LOG_FORMAT", help="Text for people, JSON for machines.")
    ] = "text",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is going on in detail.")] = False,
) -> None:
    """Owns the embedding model of a pgvector memory store."""
    set_up_logs(log_format, logging.DEBUG if verbose else logging.INFO)


def command(app: typer.Typer, options: type[C]) -> Callable[[Callable[[C], None]], None]:
    """Register a function as the command of its name, with the fields of a dataclass as its options."""

    def register(function: Callable[[C], None]) -> None:
        parameters = {parameter.name: parameter for parameter in _parameters(options)}

        def run_command(**given: Any) -> None:
            values = {name: _listed(value) if name in lists else value for name, value in given.items()}
            function(options(**values, environment=dict(os.environ)))

        lists = {each.name for each in dataclasses.fields(options) if each.default == ()}
        run_command.__name__, run_command.__doc__ = function.__name__, function.__doc__
        run_command.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
        run_command.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        app.command()(run_command)

    return register


def _parameters(options: type) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(options, include_extras=True)
    for each in dataclasses.fields(options):
        hint = hints[each.name]
        if each.name == "environment":
            continue
        default = inspect.Parameter.empty if each.default is dataclasses.MISSING else each.default
        if default == ():
            hint, default = Annotated[str, *hint.__metadata__], ""
        yield inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@command(app, OperatorOptions)
def run(options: OperatorOptions) -> None:
    """Watch Providers of a cluster: the gate, status, Events."""
    from memory_operator.processes.operator import run_operator

    _run_until_stopped("operator", lambda stop: run_operator(options, stop))


@command(app, WorkerOptions)
def worker(options: WorkerOptions) -> None:
    """Fill spaces, beside any number of other workers."""
    from memory_operator.processes.worker import run_worker_process

    _run_until_stopped("worker", lambda stop: run_worker_process(options, stop))


@command(app, ApiOptions)
def api(options: ApiOptions) -> None:
    """Serve the memory API and the admin API."""
    from memory_operator.processes.api import run_api_process
    from memory_operator.processes.runtime import serving_loop

    _run_until_stopped("api", lambda stop: run_api_process(options, stop), serving_loop)


@command(app, DevOptions)
def dev(options: DevOptions) -> None:
    """Run all of it in one process on this machine: embedded PostgreSQL, local model, no key, no network."""
    from memory_operator.processes.dev import run_dev

    _run_until_stopped("dev", lambda stop: run_dev(options, stop))


@command(app, MigrateOptions)
def migrate(options: MigrateOptions) -> None:
    """Bring a database to this release's schema. Safe to run at any time, by any number of processes."""
    from memory_operator.processes.migrate import run_migrate

    for name in _run(run_migrate(options)):
        typer.echo(f"migrated {name}")
    typer.echo("the schema is up to date")


@command(app, CheckOptions)
def check(options: CheckOptions) -> None:
    """Compare Providers with the database and change nothing: exit 0 settled, 7 held, 1 when one cannot be compared.

    With --deep also 1 where any check fails.
    """
    from memory_operator.processes.check import run_check

    if options.fix and not options.deep:
        raise typer.BadParameter("--fix needs --deep")
    checked = _run(run_check(options))
    compared = [dataclasses.asdict(each) for each in checked.providers]
    if options.as_json:
        deep = {"providers": compared, "verdict": checked.report.verdict, "checks": _shown(checked.report.findings)}
        typer.echo(json.dumps(deep if options.deep else compared, default=str))
    else:
        for comparison in checked.providers:
            typer.echo(f"{comparison.provider}: {comparison.outcome}: {comparison.message}")
        if not compared:
            typer.echo("no embedding Provider was found")
        _echo_findings(checked)
    outcomes = {comparison.outcome for comparison in checked.providers}
    if any(each.result == "fail" and each not in checked.mended for each in checked.report.findings):
        raise typer.Exit(EXIT_FAILED)
    raise typer.Exit(EXIT_HELD if "held" in outcomes else EXIT_FAILED if "error" in outcomes else 0)


def _shown(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(finding) for finding in findings]


def _echo_findings(checked: Checked) -> None:
    for each in checked.report.findings:
        what = f"{each.subject}: {each.message}" if each.subject else each.message
        word = each.result.upper() if each.result in ("ok", "warn", "fail") else "–"
        typer.echo(f"{word:<5} {each.check:<13} {what}{' (mended)' if each in checked.mended else ''}")
        if each.remedy and each.result in ("warn", "fail") and each not in checked.mended:
            typer.echo(f"{'':<19} → {each.remedy}")


@app.command()
def crds() -> None:
    """Print the CustomResourceDefinition: memory-operator crds | kubectl apply -f -"""
    from memory_operator.contract.crd import render_crd

    typer.echo(render_crd(), nl=False)


def _run_until_stopped(
    name: str,
    process: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run a process until SIGTERM or SIGINT, and send its traces where they are wanted."""
    from memory_operator import traces
    from memory_operator.processes.runtime import signals_stop

    async def body() -> None:
        # The signals first: the last traces take a moment, in which a signal must not kill.
        async with signals_stop() as stop:
            with traces.exported(name, os.environ):
                await process(stop)

    _run(body(), loop)


def _run(work: Coroutine[Any, Any, T], loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Run something to its end; a known error is printed as its message and hint, and becomes the exit code."""
    import asyncio

    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            return runner.run(work)
    except NeedsConsent as error:
        code, message, hint = EXIT_FAILED, error.message, ""
    except MemoryOperatorError as error:
        code = EXIT_USAGE if isinstance(error, ConfigurationError) else EXIT_FAILED
        message, hint = error.message, error.hint
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    typer.echo(message if message.startswith("memory:") else f"error: {message}", err=True)
    if hint:
        typer.echo(f"hint: {hint}", err=True)
    raise typer.Exit(code)


def main() -> None:
    """Entry point of `memory-operator`."""
    app(prog_name="memory-operator")
