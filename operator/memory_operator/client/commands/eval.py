"""`memory eval`: how good answers are, by judged questions or by known items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from memory_operator.client.errors import MisuseError
from memory_operator.client.evaluation import gate, loading, report
from memory_operator.client.evaluation.judged_set import JudgedSet, read_judged_sets
from memory_operator.client.evaluation.known_items import SHOWS, known_items
from memory_operator.client.evaluation.loaded import Loading, progress
from memory_operator.client.evaluation.ways import Way, ask_all, ways_of
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.options import ProjectOption, RerankOption, SpaceOption, reranking, seconds_of
from memory_operator.client.server import paths
from memory_operator.client.server.memory_ids import pages
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import SpacesDocument
from memory_operator.client.server.space_names import versions_named
from memory_operator.client.session import Session, command

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """One run: what is asked, and how."""

    session: Session
    ways: list[Way]
    versions: list[str]
    """The spaces that are asked."""
    k: int
    seed: int
    in_flight: int
    wait_seconds: int

    def measure_in(self, project: str, judged: JudgedSet, documents: Mapping[str, str]) -> report.SetResult:
        """Ask the questions of a set in a project, and measure the answers."""
        with progress(self.session, "asking", len(judged.questions) * len(self.ways)) as tell:
            found = ask_all(
                self.session.api,
                self.ways,
                judged.questions,
                {"project": project, "k": self.k},
                self.in_flight,
                tell,
            )
        return report.evaluate(judged, found, documents, report.Setting(project, self.k, self.seed))

    def loaded(self, judged: JudgedSet, *, keep: bool) -> report.SetResult:
        """Load a set into a project of its own, evaluate it, and remove it again."""
        with Loading(self.session, self.versions, self.in_flight, self.wait_seconds, keep).loaded(judged) as there:
            result = self.measure_in(there.project, judged, there.documents)
        result.remarks.extend(there.remarks)
        return result


@command(app, "eval")
def evaluate(
    session: Session,
    judged: Annotated[
        Path | None,
        typer.Option("--judged", metavar="PATH", help="A judged set, or a folder of them; qrels of BEIR and TREC do."),
    ] = None,
    known: Annotated[
        int | None, typer.Option("--self", metavar="N", min=1, help="Ask about N of your own memories instead.")
    ] = None,
    project: ProjectOption = None,
    space: SpaceOption = None,
    k: Annotated[int, typer.Option("--limit", "-k", min=10, max=200, help="How many results are asked for.")] = 10,
    least: Annotated[
        float | None,
        typer.Option("--gate", metavar="MIN", min=0, max=1, help="Exit with 9 where the default's nDCG@10 is below."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--gate-against", metavar="FILE", help="Exit with 9 where it is worse than in this --json."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the judged documents in their project.")] = False,
    in_flight: Annotated[int, typer.Option("--in-flight", min=1, max=16, help="Requests at the same time.")] = 4,
    wait: Annotated[str, typer.Option("--wait", metavar="TIME", help="For vectors of loaded documents.")] = "15m",
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn at random.")] = 1,
    rerank: RerankOption = None,
) -> None:
    """Measure how good answers are: by default, by each channel alone, and in each space.

    --judged reads corpus.jsonl, queries.jsonl and qrels.tsv. The documents are loaded into a project of their own,
    which is erased afterwards; embedding them is paid as usual. With --project the questions are asked there: of a
    project that --keep left, or of your own memories, with their ids for documents.

    With --rerank, answers that this Provider re-ranks are compared with those that nobody does.

    --self makes questions of words of your own memories. It shows whether they are found again, not how well
    questions in other words are answered.

    [bold]Examples[/]

      memory eval --judged ./cranfield
      memory eval --self 200 --project notes --json > before.json
      memory eval --self 200 --project notes --gate-against before.json
    """
    if (judged is None) == (known is None):
        raise MisuseError("give either --judged or --self", "memory eval --self 100 asks about your own memories")
    sets = read_judged_sets(judged) if judged else []
    earlier = gate.read_earlier(against) if against else None
    run = _evaluation(session, space, (k, seed, in_flight, seconds_of(wait)), reranking(rerank, None).get("rerank"))
    if known is not None:
        results = [_about_own(run, project or "default", known)]
    else:
        results = [_about_judged(run, project, one, keep=keep) for one in sets]
    failed = [] if least is None else gate.below(results, least)
    if earlier is not None and against is not None:
        failed += gate.worse(results, earlier, against)
    _report(session, results, failed)
    session.end(ExitCode.GATE_NOT_PASSED if failed else ExitCode.DONE)


def _evaluation(
    session: Session, space: str | None, figures: tuple[int, int, int, int], rerank: dict[str, Any] | None
) -> _Evaluation:
    found = read(SpacesDocument, session.api.get(paths.SPACES)).spaces
    in_use = [one.embedding_version for one in found if one.state in ("filling", "ready")]
    active = next((one.embedding_version for one in found if one.active), None)
    if space is not None:
        named = versions_named(session.api, space)
        active, in_use = named[0], named
    others = [version for version in in_use if version != active]
    k, seed, in_flight, wait_seconds = figures
    ways = ways_of(active, others, named=space is not None, rerank=rerank)
    return _Evaluation(session, ways, in_use, k, seed, in_flight, wait_seconds)


def _about_own(run: _Evaluation, project: str, count: int) -> report.SetResult:
    listed = (memory for page in pages(run.session.api, project) for memory in page)
    result = run.measure_in(project, known_items(listed, count, run.seed, project), {})
    if len(result.judged.questions) < count:
        result.remarks.append(f"{len(result.judged.questions)} memories are all that a question can be made of")
    result.remarks.extend(SHOWS)
    return result


def _about_judged(run: _Evaluation, project: str | None, judged: JudgedSet, *, keep: bool) -> report.SetResult:
    if project is not None:
        return run.measure_in(project, judged, loading.kept(run.session.api, project))
    if not judged.documents:
        raise MisuseError(
            f"{judged.name} has no corpus.jsonl", "name the project whose memories are judged with --project"
        )
    return run.loaded(judged, keep=keep)


def _report(session: Session, results: list[report.SetResult], failed: list[str]) -> None:
    if session.screen.as_json:
        gate_document = {"passed": not failed, "reasons": failed}
        session.screen.document({"sets": [one.document for one in results], "gate": gate_document})
        return
    for index, result in enumerate(results):
        if index:
            session.screen.line()
        report.show(session.screen, result)
    for reason in failed:
        session.screen.remark(f"gate not passed: {reason}", "red")
