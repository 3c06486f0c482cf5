"""`memory embeddings compare` and `rehearse`: two spaces side by side, and a model tried before anything is changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from memory_operator.client.errors import CommandError, MisuseError
from memory_operator.client.evaluation import loading, side_by_side
from memory_operator.client.evaluation.judged_set import JudgedSet, read_judged_sets, read_questions
from memory_operator.client.evaluation.known_items import SHOWS
from memory_operator.client.evaluation.loaded import Loading, progress
from memory_operator.client.evaluation.side_by_side import Compared, JudgedQuestion
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.options import DryRunOption, SpaceName, YesOption, given
from memory_operator.client.server import paths
from memory_operator.client.server.comparison_schemas import ComparedDocument, RehearsalDocument, RehearseDocument
from memory_operator.client.server.reading import read
from memory_operator.client.server.space_names import space_named, versions_named
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import duration, number, price
from memory_operator.measuring.side_by_side import worse_than

app = typer.Typer()

MOST_QUESTIONS = 1_000
_DEFAULT_QUESTIONS = 100
_IN_FLIGHT = 4
_WAIT_SECONDS = 900.0
_PAUSE_SECONDS = 1.0
_MOST_WITHOUT = 20
"""Requests that embed nothing, one after the other, until a rehearsal is given up."""

ProjectOption = Annotated[
    str | None, typer.Option("--project", "-p", metavar="NAME", help="Only this project; for --queries: default.")
]
QueriesOption = Annotated[
    Path | None, typer.Option("--queries", metavar="FILE", help="Questions, one a line, or queries.jsonl.")
]
JudgedOption = Annotated[
    Path | None, typer.Option("--judged", metavar="PATH", help="A judged set, as `memory eval --judged` reads it.")
]
KOption = Annotated[int, typer.Option("--limit", "-k", min=10, max=200, help="How many results are compared.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Of what is drawn at random.")]
GateOption = Annotated[
    float | None,
    typer.Option(
        "--gate", metavar="LOSS", min=0, max=1, help="Exit with 9 where the second is worse by more than this nDCG."
    ),
]


@dataclass(frozen=True, slots=True)
class _By:
    """What two spaces are compared by."""

    queries: Path | None
    judged: Path | None
    known: int | None
    project: str | None
    k: int
    seed: int

    def checked(self) -> _By:
        """Raises MisuseError where it is more than one thing."""
        if sum(one is not None for one in (self.queries, self.judged, self.known)) > 1:
            raise MisuseError("give one of --queries, --judged and known items of your own memories")
        return self


@dataclass(frozen=True, slots=True)
class _Questions:
    """What is to be answered, and the documents that memories are."""

    questions: Sequence[JudgedQuestion]
    documents: Mapping[str, str]
    remarks: Sequence[str] = ()


@command(app, "compare")
def compare(
    session: Session,
    first: SpaceName,
    second: SpaceName,
    queries: QueriesOption = None,
    judged: JudgedOption = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", metavar="N", min=1, max=MOST_QUESTIONS, help="Ask about N of your own memories."),
    ] = None,
    project: ProjectOption = None,
    k: KOption = 10,
    gate: GateOption = None,
    seed: SeedOption = 1,
    dry_run: DryRunOption = False,
) -> None:
    """Let two spaces answer the same questions: how alike, how good, how fast, and what a query costs.

    Where one lacks chunks that the other has, both look at those that both have. Without questions of yours, they are
    made of words of memories that both have, as by `memory eval --self`. Each question is embedded by both models.

    --judged without --project loads the documents into a project of their own, which is erased afterwards.

    [bold]Examples[/]

      memory embeddings compare wordllama-256-1 nomic-embed-text-768-3
      memory embeddings compare agents/memory agents/second --judged ./cranfield --gate 0.02
    """
    by = _By(queries, judged, sample, project, k, seed).checked()
    names = (_version(session, first), _version(session, second))
    with _questions(session, names, by, list(names)) as found:
        if dry_run:
            _plan(session, names, found, project)
            return
        compared = _compare(session, names, found, by)
    _end(session, compared, gate, found.remarks, {})


@command(app, "rehearse")
def rehearse(
    session: Session,
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="Whose vendor, credential and limits are used.")],
    model: Annotated[str, typer.Option("--model", "-m", help="The model that is tried.")],
    dimensions: Annotated[
        int | None, typer.Option("--dimensions", min=1, max=4000, help="Of its vectors, where the model has several.")
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=1, max=10_000, help="How many chunks are embedded.")
    ] = 2_000,
    questions: Annotated[
        int | None,
        typer.Option("--questions", metavar="N", min=1, max=MOST_QUESTIONS, help="Of words of your own memories."),
    ] = None,
    queries: QueriesOption = None,
    judged: JudgedOption = None,
    project: ProjectOption = None,
    k: KOption = 10,
    gate: GateOption = None,
    seed: SeedOption = 1,
    query_prefix: Annotated[str | None, typer.Option("--query-prefix", help="Instead of the Provider's.")] = None,
    document_prefix: Annotated[str | None, typer.Option("--document-prefix", help="Instead of the Provider's.")] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Try another model of a Provider's vendor on a sample of the memories, before anything is changed.

    A sample is embedded beside all spaces, compared with the active space on exactly those chunks, and dropped; nothing
    of it is ever read by queries. What it costs is said first. A rehearsal that is killed is dropped by the server.

    [bold]Examples[/]

      memory embeddings rehearse agents/memory --model text-embedding-3-large --dimensions 1024 --dry-run
      memory embeddings rehearse agents/memory --model nomic-embed-text --sample 2000 --yes
    """
    by = _By(queries, judged, questions, project, k, seed).checked()
    body = given(
        provider=_provider(session, provider),
        model=model,
        dimensions=dimensions,
        sample=sample,
        seed=seed,
        project=project,
        query_prefix=query_prefix,
        document_prefix=document_prefix,
    )
    if judged is not None and project is None and dry_run:
        raise MisuseError("a dry run loads no documents", "name the project that they are in with --project")
    if judged is None or project is not None:
        plan = session.api.query({**body, "dry_run": True}, paths.REHEARSALS)
        if not _consented(session, plan, dry_run=dry_run, yes=yes):
            return
        with _rehearsed(session, body) as (names, begun), _questions(session, names, by, []) as found:
            compared = _compare(session, names, found, by)
    else:
        compared, found, begun = _rehearse_judged(session, body, by, yes=yes)
    _end(session, compared, gate, found.remarks, {"rehearsal": begun})


def _rehearse_judged(
    session: Session, body: dict[str, Any], by: _By, *, yes: bool
) -> tuple[Compared, _Questions, dict[str, Any]]:
    """Rehearse on the documents of a judged set, which are loaded for it."""
    active = read(RehearseDocument, session.api.query({**body, "dry_run": True}, paths.REHEARSALS)).compared_with
    set_ = _one_set(by.judged)
    with Loading(session, [active], _IN_FLIGHT, _WAIT_SECONDS).loaded(set_) as there:
        body = {**body, "project": there.project}
        _consented(session, session.api.query({**body, "dry_run": True}, paths.REHEARSALS), dry_run=False, yes=yes)
        found = _judged_questions(set_, there.project, there.documents, there.remarks)
        with _rehearsed(session, body) as (names, begun):
            return _compare(session, names, found, by), found, begun


def _consented(session: Session, document: Any, *, dry_run: bool, yes: bool) -> bool:
    """Say what a rehearsal takes, and ask; False for a dry run. Raises CommandError for a no."""
    plan = read(RehearseDocument, document)
    cost = "the Provider declares no price"
    if plan.estimated_cost is not None:
        cost = f"{price(plan.estimated_cost, plan.currency)} at the Provider's price"
    lasts = "" if plan.estimated_seconds is None else f", {duration(plan.estimated_seconds)}"
    about = (
        f"{number(plan.chunks)} chunks of {number(plan.projects)} {'project' if plan.projects == 1 else 'projects'} are"
        f" embedded and compared with {plan.compared_with}: about {number(plan.estimated_tokens)} tokens"
        f" ({cost}){lasts}"
    )
    if dry_run:
        session.report(document, about)
        return False
    if yes:
        session.screen.remark(about)
        return True
    session.ask_first(
        "Rehearse?",
        [about],
        risk="a rehearsal sends memories to the Provider's vendor, and may cost",
        hint="see what with --dry-run, then repeat with --yes",
        declined="nothing was embedded",
    )
    return True


@contextlib.contextmanager
def _rehearsed(session: Session, body: dict[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """The active space, and a rehearsal that is embedded; it is dropped at the end, also after an error."""
    document = session.api.post(paths.REHEARSALS, {**body, "dry_run": False})
    plan = read(RehearseDocument, document)
    if plan.rehearsal is None:
        raise CommandError("the server began no rehearsal")
    rehearsal, filled = plan.rehearsal, document["rehearsal"]
    try:
        with progress(session, "embedding", rehearsal.chunks) as tell:
            done, without = 0, 0
            while done < rehearsal.chunks:
                filled = session.api.query({}, paths.rehearsal(rehearsal.id, "fill"))
                rehearsal, before = read(RehearsalDocument, filled), done
                done = rehearsal.embedded + rehearsal.refused
                tell(done)
                without = 0 if done > before else without + 1
                if without == _MOST_WITHOUT:
                    raise CommandError("the vendor, or the Provider's limits, let nothing through", "try again later")
                if without:
                    time.sleep(_PAUSE_SECONDS)
        if rehearsal.refused:
            session.screen.remark(f"the vendor refuses {number(rehearsal.refused)} of the chunks", "yellow")
        yield (plan.compared_with, rehearsal.name), filled
    finally:
        try:
            session.api.delete(paths.rehearsal(rehearsal.id))
        except CommandError as failure:
            session.screen.remark(f"{rehearsal.name} is dropped in 15 minutes: {failure.detail}", "yellow")


def _version(session: Session, name: str) -> str:
    """The space, or the rehearsal, of a name. Raises MisuseError where it has several."""
    if name.startswith("rehearsal-"):
        return name
    named = space_named(session.api, name)
    found = [named["embedding_version"]] if "embedding_version" in named else versions_named(session.api, name)
    if len(found) > 1:
        raise MisuseError(f"{name} has several spaces in use", f"name one of them: {', '.join(found)}")
    return found[0]


def _provider(session: Session, name: str) -> str:
    """A Provider, as namespace/name or name. Raises CommandError."""
    if "/" in name:
        return name
    named = space_named(session.api, name)
    if "provider" not in named:
        raise MisuseError(f"{name} is a space", "name its Provider")
    return named["provider"]


@contextlib.contextmanager
def _questions(session: Session, names: tuple[str, str], by: _By, versions: list[str]) -> Iterator[_Questions]:
    """What both are to answer; a judged set without a project is loaded for as long as that takes."""
    if by.queries is not None:
        texts = read_questions(by.queries)[:MOST_QUESTIONS]
        yield _Questions([JudgedQuestion(text, by.project or "default") for text in texts], {})
    elif by.judged is not None:
        judged = _one_set(by.judged)
        if by.project is not None:
            yield _judged_questions(judged, by.project, loading.kept(session.api, by.project), ())
            return
        with Loading(session, versions, _IN_FLIGHT, _WAIT_SECONDS).loaded(judged) as there:
            yield _judged_questions(judged, there.project, there.documents, there.remarks)
    else:
        yield _drawn(session, names, by)


def _one_set(path: Path | None) -> JudgedSet:
    sets = read_judged_sets(path) if path else []
    if len(sets) != 1:
        raise MisuseError(f"{path} holds {len(sets)} judged sets", "name the folder of one")
    return sets[0]


def _judged_questions(
    judged: JudgedSet, project: str, documents: Mapping[str, str], remarks: Sequence[str]
) -> _Questions:
    memories: dict[str, list[str]] = {}
    for memory, document in documents.items():
        memories.setdefault(document, []).append(memory)
    questions = [
        JudgedQuestion(text, project, judged.judgements[name], memories)
        for name, text in list(judged.questions.items())[:MOST_QUESTIONS]
    ]
    return _Questions(questions, documents, remarks)


def _drawn(session: Session, names: tuple[str, str], by: _By) -> _Questions:
    draw = {"count": by.known or _DEFAULT_QUESTIONS, "seed": by.seed}
    body = given(first=names[0], second=names[1], project=by.project, draw=draw)
    drawn = read(ComparedDocument, session.api.query(body, paths.COMPARE)).drawn
    if not drawn:
        raise CommandError("both have no memory of three words or more", "give questions with --queries or --judged")
    questions = [
        JudgedQuestion(one.query, one.project, dict.fromkeys(one.judged, 1), {name: [name] for name in one.judged})
        for one in sorted(drawn, key=lambda one: one.project)
    ]
    return _Questions(questions, {}, SHOWS)


def _plan(session: Session, names: tuple[str, str], found: _Questions, project: str | None) -> None:
    """What a comparison would take."""
    document = session.api.query(given(first=names[0], second=names[1], project=project), paths.COMPARE)
    compared = read(ComparedDocument, document)
    session.report(
        {**document, "questions": len(found.questions)},
        f"{number(len(found.questions))} questions would be embedded by both, and answered over"
        f" {number(compared.in_common.both)} chunks that both have",
    )


def _compare(session: Session, names: tuple[str, str], found: _Questions, by: _By) -> Compared:
    with progress(session, "asking", len(found.questions)) as tell:
        return side_by_side.compare(session.api, names, found.questions, (by.k, by.seed), found.documents, tell)


def _end(
    session: Session, compared: Compared, gate: float | None, remarks: Sequence[str], more: dict[str, Any]
) -> None:
    """Show what was found, and exit by the gate."""
    judged = compared.summary.judged
    if gate is not None and judged is None:
        raise MisuseError("--gate needs judged questions or known items")
    reasons = [] if gate is None or judged is None else worse_than(judged, gate)
    if session.screen.as_json:
        passed = {"passed": not reasons, "reasons": reasons}
        session.screen.document({**compared.document, **more, "gate": passed, "remarks": list(remarks)})
    else:
        side_by_side.show(session.screen, compared)
        for remark in remarks:
            session.screen.remark(remark)
        for reason in reasons:
            session.screen.remark(f"gate not passed: {reason}", "red")
    session.end(ExitCode.GATE_NOT_PASSED if reasons else ExitCode.DONE)
