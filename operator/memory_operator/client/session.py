"""What every command has in common: where the server is, how to answer, and how to fail."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from memory_operator.client.errors import CommandError, MisuseError
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.server.reading import A, read
from memory_operator.client.server.target import DEFAULT_SERVER, Target
from memory_operator.client.terminal.console import Screen

if TYPE_CHECKING:
    from memory_operator.client.server.api import ApiClient

INTERRUPTED = 130

P = ParamSpec("P")

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", help=f"The memory API. [dim]\\[env: MEMORY_API; default: {DEFAULT_SERVER}][/]"
    ),
]
TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="File that holds the bearer token. [dim]\\[default: the variable MEMORY_TOKEN][/]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the server's JSON; errors as JSON on stderr.")]


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """What was said about the server before or after the command's name."""

    server: str | None = None
    token_file: Path | None = None
    as_json: bool = False

    def overridden(self, server: str | None, token_file: Path | None, *, as_json: bool) -> CommandOptions:
        """These options, with what is said again further to the right."""
        return CommandOptions(server or self.server, token_file or self.token_file, as_json or self.as_json)


@dataclass(frozen=True, slots=True)
class Session:
    """One run of one command."""

    screen: Screen
    api: ApiClient

    def answer(self, model: type[A], document: Any) -> A | None:
        """An answer that is to be shown; None where --json has printed it as it is."""
        if self.screen.as_json:
            self.screen.document(document)
            return None
        return read(model, document)

    def report(self, document: Any, sentence: str) -> None:
        """An answer that one sentence says."""
        if self.screen.as_json:
            self.screen.document(document)
        else:
            self.screen.line(sentence)

    def hint_at_more(self, option: str, number: int | str | None) -> None:
        """How to see the next page of a list, where there is one."""
        if number is not None:
            self.screen.remark(f"hint: earlier ones: {option} {number}")

    def ask_first(self, question: str, about: Iterable[str], *, risk: str, hint: str, declined: str) -> None:
        """Go on only for a yes. Raises MisuseError where nobody can be asked, CommandError for a no."""
        if not self.screen.may_ask:
            raise MisuseError(risk, hint)
        for line in about:
            self.screen.ask_about(line)
        if not self.screen.confirm(question):
            raise CommandError(declined)

    @contextlib.contextmanager
    def interruptible(self, remark: str) -> Iterator[None]:
        """Say at Ctrl-C what goes on without this program, and end as interrupted programs do."""
        try:
            yield
        except KeyboardInterrupt:
            self.screen.remark(f"interrupted: {remark}", "yellow")
            raise typer.Exit(INTERRUPTED) from None

    def end(self, code: ExitCode) -> None:
        """End the command with this exit code, which is not a failure of the command itself."""
        raise typer.Exit(int(code))


def options_of(ctx: typer.Context) -> CommandOptions:
    """What was said so far, by the groups that a command belongs to."""
    return ctx.obj if isinstance(ctx.obj, CommandOptions) else CommandOptions()


def read_target(options: CommandOptions, environment: Mapping[str, str]) -> Target:
    """Where to call, from the options and the environment. Raises MisuseError."""
    url = options.server or environment.get("MEMORY_API") or DEFAULT_SERVER
    if options.token_file is None:
        return Target(url.rstrip("/"), environment.get("MEMORY_TOKEN", "").strip() or None)
    try:
        token = options.token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MisuseError(f"the token file {options.token_file} cannot be read: {_reason(error)}") from error
    if not token:
        raise MisuseError(f"the token file {options.token_file} is empty")
    return Target(url.rstrip("/"), token)


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return "it is not text" if isinstance(error, UnicodeDecodeError) else (error.strerror or type(error).__name__)


def command(
    app: typer.Typer, name: str
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Make a function a command of `app`: it is given a Session, and --server, --token-file and --json are added.

    A CommandError that it raises is shown and becomes the exit code.
    """

    def register(
        function: Callable[Concatenate[Session, P], None],
    ) -> Callable[Concatenate[Session, P], None]:
        app.command(name)(_with_common_options(function))
        return function

    return register


def _with_common_options(function: Callable[..., None]) -> Callable[..., None]:
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

    @functools.wraps(function)
    def run(
        ctx: typer.Context, server: str | None, token_file: Path | None, *, as_json: bool, **arguments: Any
    ) -> None:
        from memory_operator.client.server.api import ApiClient

        options = options_of(ctx).overridden(server, token_file, as_json=as_json)
        screen = Screen(as_json=options.as_json)
        try:
            with ApiClient(read_target(options, os.environ)) as api:
                function(Session(screen, api), **arguments)
        except CommandError as failure:
            screen.failure(failure)
            raise typer.Exit(int(failure.exit_code)) from failure

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", keyword, annotation=typer.Context),
        *(parameter.replace(kind=keyword) for parameter in own),
        inspect.Parameter("server", keyword, annotation=ServerOption, default=None),
        inspect.Parameter("token_file", keyword, annotation=TokenOption, default=None),
        inspect.Parameter("as_json", keyword, annotation=JsonOption, default=False),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__doc__ = flowing(inspect.getdoc(function) or "")
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def flowing(doc: str) -> str:
    """A help text whose paragraphs are one line each, to be wrapped by the terminal; indented ones stay as they are."""
    paragraphs = doc.split("\n\n")
    return "\n\n".join(text if text.startswith(" ") else text.replace("\n", " ") for text in paragraphs)
