"""The entry point of `memory`.

A command's module is imported when that command is run, so that none waits for what only another one needs.
"""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from typing import Annotated

import typer

from memory_operator.client.exit_codes import LEGEND
from memory_operator.client.lazy import lazy_group
from memory_operator.client.session import JsonOption, ServerOption, TokenOption, options_of

_COMMANDS = {
    "add": ("add", "Store a memory, or with --file one for every line of a file."),
    "query": ("query", "Find memories by meaning and by words."),
    "list": ("browse", "List memories as they are now, newest first."),
    "export": ("browse", "Write every memory as it is now, a JSON object a line, newest first."),
    "show": ("memories", "Show one memory as it is now."),
    "history": ("memories", "Show the versions of a memory, newest first, the deletion too."),
    "edit": (
        "memories",
        "Give a memory a new version; what is not named stays, and earlier versions stay in its history.",
    ),
    "delete": ("memories", "Delete a memory; with --purge erase it, its history and its vectors in every space."),
    "status": ("store", "Say in a few lines whether the server answers and how well it can search."),
    "doctor": ("doctor", "Look at everything, and say what is wrong and what to do about it."),
    "activities": (
        "store",
        "Show what happened: consents, activations, changes and purges, with who, when and from where; newest first.",
    ),
    "stats": ("store", "Show counts."),
    "language": ("language", "Show the language of each project's words, or set that of one."),
    "eval": ("eval", "Measure how good answers are: by default, by each channel alone, and in each space."),
    "usage": ("usage", "Show calls to embedding vendors, their tokens and what they cost."),
}
_EMBEDDINGS = {
    "list": (
        "spaces",
        "List the spaces; * marks the active one, ! one in trouble, and Providers that are not applied.",
    ),
    "status": ("fill_status", "Show the spaces, the fills that are under way and the changes that wait for consent."),
    "activate": ("spaces", "Let queries read another space, at once and without embedding anything."),
    "deactivate": ("spaces", "Turn semantic search off: no space is active, and queries answer from full-text."),
    "create-enabled": (
        "spaces",
        "Let new memories be embedded for a space, or not; reembed still fills it.",
    ),
    "import": ("import_config", "Write a Provider's manifest for each backend of a configuration file."),
    "consent": (
        "consent",
        "Allow one change of the embedding dimension, which discards the stored vectors of one Provider.",
    ),
    "reembed": (
        "rebuild",
        "Make the vectors that are missing, and try refused chunks again; those that are there stay.",
    ),
    "rebuild": (
        "rebuild",
        "Make all vectors anew, also those that are there; each is used until the new one is stored.",
    ),
    "reindex": ("rebuild", "Cut the stored memories into chunks anew, by the present rules, and fill every space."),
    "jobs": ("jobs", "List the jobs that fill spaces or cut memories anew, newest first."),
    "pause": ("jobs", "Let no further call leave for a job until it is resumed; calls under way are still stored."),
    "resume": ("jobs", "Let a paused job go on."),
    "cancel": (
        "jobs",
        "End a job. The vectors that it has stored stay; `memory embeddings reembed` makes the others later.",
    ),
    "quarantine": (
        "quarantine",
        "List the chunks that an embedder refuses, each with its memory and the reason, newest first.",
    ),
    "compare": (
        "compare",
        "Let two spaces answer the same questions: how alike, how good, how fast, and what a query costs.",
    ),
    "rehearse": (
        "compare",
        "Try another model of a Provider's vendor on a sample of the memories, before anything is changed.",
    ),
    "prune": ("spaces", "Remove the spaces that no Provider asks for any more, with their vectors."),
}

app = typer.Typer(
    name="memory",
    cls=lazy_group(_COMMANDS),
    no_args_is_help=True,
    rich_markup_mode="rich",
    # The traceback of a fault must not show the locals of a frame that holds a token.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog=LEGEND,
)
embeddings = typer.Typer(cls=lazy_group(_EMBEDDINGS), no_args_is_help=True, epilog=LEGEND)
app.add_typer(embeddings, name="embeddings")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

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
    ctx.obj = options_of(ctx).overridden(server, token_file, as_json=as_json)


@embeddings.callback()
def embeddings_root(
    ctx: typer.Context,
    server: ServerOption = None,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """The spaces of vectors: list, fill, switch, prune."""
    ctx.obj = options_of(ctx).overridden(server, token_file, as_json=as_json)


def main() -> None:
    """Run one command and exit with its code."""
    if any(option in ("--install-completion", "--show-completion") for option, _ in pairwise(sys.argv)):
        # A shell is named, as in `--install-completion zsh`: without this Typer takes the one that it runs in.
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    app(prog_name="memory")
