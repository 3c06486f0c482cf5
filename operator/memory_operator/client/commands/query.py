"""`memory query`: find memories by meaning and by words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer

from memory_operator.client.errors import MisuseError
from memory_operator.client.options import ProjectOption, RerankOption, given, reranking, stdin_text
from memory_operator.client.server import paths
from memory_operator.client.server.schemas import FoundDocument, HitDocument, QueryDiagnosticsDocument
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import number, one_line, share
from memory_operator.client.views.scores import bars, contributions, rerank_line, weight_lines

app = typer.Typer()


@command(app, "query")
def query(
    session: Session,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for; - reads it from stdin.")],
    project: ProjectOption = None,
    limit: Annotated[int, typer.Option("--limit", "-k", min=1, max=200, help="How many results.")] = 10,
    memory_type: Annotated[str | None, typer.Option("--type", help="Only memories of this type.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only memories with this tag; may be repeated.")] = None,
    source: Annotated[str | None, typer.Option(help="Only memories from this source.")] = None,
    after: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only memories stored after it, such as 2026-01-31.")
    ] = None,
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Only memories stored before it.")] = None,
    min_score: Annotated[
        float | None, typer.Option("--min-score", min=0, max=1, help="Leave out results with a lower score.")
    ] = None,
    chunks: Annotated[
        bool, typer.Option("--chunks", help="Find chunks, instead of memories by their best one.")
    ] = False,
    context: Annotated[
        int | None, typer.Option("--context", min=0, max=5, help="Show so many chunks before and after.")
    ] = None,
    all_equal: Annotated[bool, typer.Option("--all", help="Show each of several memories with the same text.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show what each channel gives to each score.")] = False,
    rerank: RerankOption = None,
    rerank_top: Annotated[
        int | None, typer.Option("--rerank-top", min=1, max=100, help="How many results are re-ranked.")
    ] = None,
) -> None:
    """Find memories by meaning and by words.

    In a pipe every result is one line: id, score, kind of match and text, separated by tabs; with --explain what
    full-text, vectors and their agreement give to the score stands before the text.

    [bold]Examples[/]

      memory query "when is staging rebuilt?"
      memory query staging -k 3 --tag ops --after 2026-01-31 --json
      memory query "when is staging rebuilt?" --explain
      memory query "when is staging rebuilt?" --rerank agents/reranker --rerank-top 20
    """
    filters = given(type=memory_type, tags=tag, source=source, created_after=_time(after), created_before=_time(before))
    body = given(query=stdin_text().strip() if text == "-" else text, project=project, k=limit, filters=filters or None)
    body |= given(
        min_score=min_score, context=context, granularity="chunk" if chunks else None, explain=explain or None
    )
    body |= {"fold": False} if all_equal else {}
    body |= reranking(rerank, rerank_top)
    found = session.answer(FoundDocument, session.api.post(paths.QUERY, body))
    if found is not None:
        _show_found(session, found, project or "default")


def _time(text: str | None) -> str | None:
    """A moment as the server wants it; one without a zone is of this machine's."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise MisuseError(f"{text!r} is not a time", "such as 2026-01-31 or 2026-01-31T12:00:00Z") from error


def _show_found(session: Session, found: FoundDocument, project: str) -> None:
    screen, about = session.screen, found.diagnostics
    least = about.rerank.least_relevance if about.rerank else None
    if screen.is_terminal:
        for line in _weights(about):
            screen.line(line, "dim")
    for rank, hit in enumerate(found.results, 1):
        if not screen.is_terminal:
            given_by = contributions(hit) if about.explanation else ()
            screen.line("\t".join((hit.id, f"{hit.score:.4f}", hit.match_kind, *given_by, one_line(hit.text))))
            continue
        screen.line(f"{rank}. {hit.id}  {hit.match_kind}  {hit.score:.4f}", "bold")
        for line in bars(hit, least) if about.explanation else ():
            screen.line(line, "dim")
        _show_text(session, hit)
    if not found.results:
        screen.remark(f"nothing found in project {project}")
    for remark in _remarks(about):
        screen.remark(remark, "yellow")


def _weights(about: QueryDiagnosticsDocument) -> Iterator[str]:
    """What stands before the results where the arithmetic was asked for."""
    if about.explanation:
        yield from weight_lines(about.explanation)
        if about.rerank and about.rerank.status == "ok":
            yield rerank_line(about.rerank)


def _remarks(about: QueryDiagnosticsDocument) -> Iterator[str]:
    """What stands after them: why an answer is not the full one, and what of the question was used."""
    if remark := _remark_on(about):
        yield remark
    if about.rerank and about.rerank.status != "ok":
        yield rerank_line(about.rerank)
    if cut := about.cut:
        used = f"{number(cut.fulltext)} for words, {number(cut.semantic)} for meaning"
        yield f"of {number(cut.characters)} characters of the question the first were used: {used}"


def _show_text(session: Session, hit: HitDocument) -> None:
    for texts, style in ((hit.before, "dim"), ((hit.text,), ""), (hit.after, "dim")):
        for text in texts:
            for line in text.splitlines() or [""]:
                session.screen.line(f"   {line}", style)
    if hit.also:
        session.screen.line(f"   (and {number(len(hit.also))} more with the same text: {', '.join(hit.also)})", "dim")


def _remark_on(diagnostics: QueryDiagnosticsDocument) -> str:
    """What a reader must know about an answer that is not the full one."""
    reason = f" ({diagnostics.reason})" if diagnostics.reason else ""
    match diagnostics.semantic_status:
        case "ok":
            return f"full-text only: semantic search took no part{reason}" if reason else ""
        case "filling":
            return f"partial: {share(diagnostics.coverage)} of the chunks have a vector; full-text stands in"
        case "no_active_space":
            return f"full-text only: no space is active{reason}; see memory embeddings list"
        case "embedder_unavailable":
            return f"full-text only: the embedder did not answer{reason}; see memory embeddings status"
        case "disabled":
            return "full-text only: semantic search is off; turn it on with memory embeddings activate NAME"
        case other:
            return f"semantic search: {other}{reason}"
