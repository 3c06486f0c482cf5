"""Memories by the beginning of their ids, and page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from memory_operator.client.errors import CommandError, MisunderstoodError
from memory_operator.client.server import paths
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import MemoriesDocument

PAGE = 200
SHOWN = 5

_BEGINNING = re.compile(r"[0-9a-f]{4,8}(-[-0-9a-f]{0,23})?")


def memory_named(api: ApiClient, name: str) -> str:
    """The id of a memory, of which the first four characters or more will do where no other one begins so.

    Anything that is no such beginning is left to the server. Raises CommandError.
    """
    beginning = name.strip().lower()
    if not _BEGINNING.fullmatch(beginning):
        return name
    document = api.get(paths.MEMORIES, id=beginning, limit=SHOWN + 1)
    found = [memory.id for memory in read(MemoriesDocument, document).memories]
    if len(found) == 1:
        return found[0]
    if not found:
        raise CommandError(
            f"no memory's id begins with {name}",
            "`memory list` shows them; a deleted one is known by its whole id only",
        )
    others = ", …" if len(found) > SHOWN else ""
    raise CommandError(f"several ids begin with {name}", ", ".join(sorted(found[:SHOWN])) + others)


def pages(api: ApiClient, project: str | None) -> Iterator[list[dict[str, Any]]]:
    """The current memories as the server describes them, newest first. Raises CommandError."""
    before: int | None = None
    while True:
        document = api.get(paths.MEMORIES, project=project, limit=PAGE, before=before)
        following = read(MemoriesDocument, document).next_before
        yield document["memories"]
        if following is None:
            return
        if before is not None and following >= before:
            raise MisunderstoodError("the server's pages of memories do not end")
        before = following
