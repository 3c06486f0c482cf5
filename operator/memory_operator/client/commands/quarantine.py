"""`memory embeddings quarantine`: the chunks that embedders refuse, why, and another try."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from memory_operator.client.errors import MisuseError
from memory_operator.client.options import LimitOption, SpaceOption
from memory_operator.client.server import paths
from memory_operator.client.server.begun import SkippedChunkDocument, SkippedDocument
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import QuarantinedDocument, QuarantineDocument, RetriedDocument
from memory_operator.client.server.space_names import versions_named
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import moment, number
from memory_operator.client.terminal.table import Columns

PAGE = 200
RETRIED_AT_ONCE = 1000

_QUARANTINE = Columns(
    ("ID", "MEMORY", "CHUNK", "SPACE", "REASON", "ATTEMPTS", "SINCE", "NEXT TRY"),
    figures=("CHUNK", "ATTEMPTS"),
    text=("REASON",),
    fold=("SINCE", "NEXT TRY", "ATTEMPTS", "CHUNK", "SPACE", "REASON"),
)

_SKIPPED = Columns(
    ("ID", "MEMORY", "CHUNK", "PROJECT", "VECTOR", "REASON"),
    figures=("CHUNK",),
    text=("REASON",),
    fold=("PROJECT", "CHUNK", "REASON", "VECTOR"),
)

app = typer.Typer()


@command(app, "quarantine")
def quarantine(
    session: Session,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="With --retry, only these.")] = None,
    space: SpaceOption = None,
    limit: LimitOption = 50,
    before: Annotated[str | None, typer.Option("--before", metavar="ID", help="Only older ones than this.")] = None,
    job: Annotated[
        int | None,
        typer.Option("--job", min=1, metavar="ID", help="Those that this job skipped, also where they keep a vector."),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try them once more: those named, else all of them.")] = False,
) -> None:
    """List the chunks that an embedder refuses, each with its memory and the reason, newest first.

    They are out of the way of the others, and are tried again by themselves where NEXT TRY says when. With --retry they
    are tried at once, which the next call pays for.

    [bold]Examples[/]

      memory embeddings quarantine
      memory embeddings quarantine --retry 4711.3
      memory embeddings quarantine --space nomic-embed-text-768-3 --retry
      memory embeddings quarantine --job 7
    """
    if job is not None:
        if retry or ids or space or before:
            raise MisuseError("--job goes with --limit alone", "without it every refused chunk is listed, or retried")
        _list_skipped(session, job, limit)
        return
    version = None
    if space is not None:
        found = versions_named(session.api, space)
        if len(found) > 1:
            raise MisuseError(f"{space} has several spaces in use", f"name one of them: {', '.join(found)}")
        version = found[0]
    if retry:
        _retry(session, ids or list(_all_ids(session, version)))
    elif ids:
        raise MisuseError("ids are for --retry", "without them every refused chunk is listed")
    else:
        _list(session, version, limit, before)


def _list(session: Session, version: str | None, limit: int, before: str | None) -> None:
    document = session.api.get(paths.QUARANTINE, embedding_version=version, limit=limit, before=before)
    found = session.answer(QuarantineDocument, document)
    if found is None:
        return
    if not found.quarantined:
        session.screen.remark("no chunk is refused")
        return
    session.screen.table(_QUARANTINE, [_row(one) for one in found.quarantined])
    session.hint_at_more("--before", found.next_before)


def _list_skipped(session: Session, job: int, limit: int) -> None:
    found = session.answer(SkippedDocument, session.api.get(paths.job(job, "skipped"), limit=limit))
    if found is None:
        return
    if not found.skipped:
        session.screen.remark(f"job {job} has skipped no chunk, or a later job of its space has begun")
        return
    session.screen.table(_SKIPPED, [_skipped_row(one) for one in found.skipped])
    if found.next_after is not None:
        session.screen.remark("hint: there may be more; --limit takes up to 200")


def _skipped_row(one: SkippedChunkDocument) -> tuple[str, ...]:
    return (one.id, one.memory, str(one.chunk), one.project, "none" if one.quarantined else "kept", one.reason)


def _row(one: QuarantinedDocument) -> tuple[str, ...]:
    return (
        one.id,
        one.memory,
        str(one.chunk),
        one.embedding_version,
        one.reason,
        number(one.attempts),
        moment(one.since),
        moment(one.retry_at) if one.retry_at else "on request",
    )


def _all_ids(session: Session, version: str | None) -> Iterator[str]:
    before: str | None = None
    while True:
        document = session.api.get(paths.QUARANTINE, embedding_version=version, limit=PAGE, before=before)
        found = read(QuarantineDocument, document)
        yield from (one.id for one in found.quarantined)
        before = found.next_before
        if before is None:
            return


def _retry(session: Session, ids: list[str]) -> None:
    retried = 0
    for start in range(0, len(ids), RETRIED_AT_ONCE):
        document = session.api.post(paths.RETRY, {"ids": ids[start : start + RETRIED_AT_ONCE]})
        retried += read(RetriedDocument, document).retried
    session.report({"retried": retried}, f"{number(retried)} refused chunks are tried once more")
