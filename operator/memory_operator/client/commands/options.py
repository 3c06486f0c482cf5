"""The options that describe a memory, the same for adding and for editing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from memory_operator.client.errors import MisuseError

ProjectOption = Annotated[str | None, typer.Option("--project", "-p", help="The project; default: default.")]
SummaryOption = Annotated[str | None, typer.Option("--summary", help="A summary, kept beside the text.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="What kind of memory it is, such as decision.")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be repeated.")]
SourceOption = Annotated[str | None, typer.Option("--source", help="Where it comes from.")]
ImportanceOption = Annotated[float | None, typer.Option("--importance", min=0, max=1, help="0 to 1.")]
ConfidenceOption = Annotated[float | None, typer.Option("--confidence", min=0, max=1, help="0 to 1.")]
MetaOption = Annotated[list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Metadata; may be repeated.")]


def fields(**given: Any) -> dict[str, Any]:
    """The part of a request that these options make: those that were given."""
    return {name: value for name, value in given.items() if value is not None}


def metadata(pairs: list[str] | None) -> dict[str, str] | None:
    """What --meta says. Raises MisuseError."""
    if pairs is None:
        return None
    split = [pair.partition("=") for pair in pairs]
    if faulty := next((pair for pair in split if not pair[0] or not pair[1]), None):
        raise MisuseError(f"--meta {''.join(faulty)} is not KEY=VALUE")
    return {key: value for key, _, value in split}
