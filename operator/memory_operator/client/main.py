"""The entry point of `memory`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from memory_operator.client.commands import add, embeddings, memories, overview, usage
from memory_operator.client.exit_codes import LEGEND
from memory_operator.client.session import CommandOptions, JsonOption, ServerOption, TokenOption

app = typer.Typer(
    name="memory",
    no_args_is_help=True,
    rich_markup_mode="rich",
    # The traceback of a fault must not show the locals of a frame that holds a token.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog=LEGEND,
)
app.add_typer(add.app)
app.add_typer(memories.app)
app.add_typer(overview.app)
app.add_typer(usage.app)
app.add_typer(embeddings.app, name="embeddings", help="The spaces of vectors: list, compare, fill, switch, prune.")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"memory {version('memory-operator')}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    server: ServerOption = None,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Store memories of AI agents, find them again, and look after the embeddings that find them."""
    del show_version
    ctx.obj = CommandOptions(server, token_file, as_json)


def main() -> None:
    """Run one command and exit with its code."""
    app(prog_name="memory")
