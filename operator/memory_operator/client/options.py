"""The options and arguments that several commands take, each written once."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer

from memory_operator.client.completion import complete_job, complete_project, complete_space
from memory_operator.client.errors import MisuseError

MAX_STDIN_BYTES = 1 << 20

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# What describes a memory, the same for adding and for editing.
ProjectOption = Annotated[str | None, typer.Option("--project", "-p", help="The project; default: default.")]
AnyProjectOption = Annotated[
    str | None,
    typer.Option("--project", "-p", metavar="NAME", help="About this project.", autocompletion=complete_project),
]
SummaryOption = Annotated[str | None, typer.Option("--summary", help="A summary, kept beside the text.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="What kind of memory it is, such as decision.")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be repeated.")]
SourceOption = Annotated[str | None, typer.Option("--source", help="Where it comes from.")]
ImportanceOption = Annotated[float | None, typer.Option("--importance", min=0, max=1, help="0 to 1.")]
ConfidenceOption = Annotated[float | None, typer.Option("--confidence", min=0, max=1, help="0 to 1.")]
MetaOption = Annotated[list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Metadata; may be repeated.")]

# What is worked on.
SpaceName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A space's name, or its Provider as namespace/name or name.",
        autocompletion=complete_space,
    ),
]
SpaceOption = Annotated[
    str | None,
    typer.Option(
        "--space",
        "--backend",
        "-s",
        metavar="NAME",
        help="Only this space, or this Provider's: namespace/name or name.",
        autocompletion=complete_space,
    ),
]
JobId = Annotated[
    int,
    typer.Argument(
        metavar="ID", min=1, help="The job's number; `memory embeddings jobs` lists them.", autocompletion=complete_job
    ),
]

MemoryId = Annotated[
    str, typer.Argument(metavar="ID", help="The id of a memory, or as much of its beginning as no other has.")
]

RerankOption = Annotated[
    str | None,
    typer.Option(
        "--rerank",
        metavar="PROVIDER",
        help="Re-rank by this Provider, namespace/name; active: by the one that is read; off: not at all.",
    ),
]

# How it is done.
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen; nothing is changed.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many.")]
BeforeOption = Annotated[int | None, typer.Option("--before", min=1, help="Only those before this number.")]
CheckOption = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Let the exit code tell: 0 semantic search is complete, 3 the active embedder does not answer, "
        "4 there is no embedder, 7 a change waits for consent, 9 the active space lacks vectors or none is active.",
    ),
]


def given(**options: Any) -> dict[str, Any]:
    """The part of a request that these options make: those that were given."""
    return {name: value for name, value in options.items() if value is not None}


def reranking(provider: str | None, top: int | None) -> dict[str, Any]:
    """What a query says of re-ranking; nothing where nothing was said. Raises MisuseError."""
    if provider is None and top is None:
        return {}
    if provider == "off":
        if top is not None:
            raise MisuseError("--rerank off and --rerank-top do not go together", "leave one of them out")
        return {"rerank": {"top": 0}}
    return {"rerank": given(provider=None if provider == "active" else provider, top=top)}


def metadata(pairs: list[str] | None) -> dict[str, str] | None:
    """What --meta says. Raises MisuseError."""
    if pairs is None:
        return None
    split = [pair.partition("=") for pair in pairs]
    if faulty := next((pair for pair in split if not pair[0] or not pair[1]), None):
        raise MisuseError(f"--meta {''.join(faulty)} is not KEY=VALUE")
    return {key: value for key, _, value in split}


def seconds_of(text: str) -> int:
    """A span of time such as 90s, 15m, 1h30m or 7d; a bare number is in seconds. Raises MisuseError."""
    if text.isdecimal():
        return int(text)
    if not re.fullmatch(r"(\d+[smhd])+", text):
        raise MisuseError(f"{text!r} is not a span of time", "such as 90s, 15m, 1h30m or 7d")
    return sum(int(amount) * _SECONDS[unit] for amount, unit in re.findall(r"(\d+)([smhd])", text))


def stdin_text() -> str:
    """A text from stdin. Raises MisuseError."""
    content = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(content) > MAX_STDIN_BYTES:
        raise MisuseError(
            f"the text on stdin is longer than {MAX_STDIN_BYTES:,} bytes", "split it, or add it with --file"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MisuseError("the text on stdin is not UTF-8") from error
