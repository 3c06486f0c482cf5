"""A judged set in a project of its own: loaded, left as long as it is needed, removed whatever happens."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from memory_operator.client.errors import CommandError
from memory_operator.client.evaluation import loading
from memory_operator.client.evaluation.judged_set import JudgedSet
from memory_operator.client.server import paths
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.project_schemas import StatsDocument
from memory_operator.client.server.reading import read
from memory_operator.client.session import Session
from memory_operator.client.terminal.format import number
from memory_operator.client.terminal.progress import Bar, bars


@dataclass(frozen=True, slots=True)
class Loaded:
    """Where a judged set is, and what was noticed about it."""

    project: str
    documents: Mapping[str, str]
    """The document that a memory is."""
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Loading:
    """How sets are loaded."""

    session: Session
    versions: list[str]
    """The spaces whose vectors are waited for."""
    in_flight: int
    wait_seconds: float
    keep: bool = False

    @contextlib.contextmanager
    def loaded(self, judged: JudgedSet) -> Iterator[Loaded]:
        """A set in a project of its own, which is removed at the end, also at Ctrl-C and after an error."""
        api, project = self.session.api, _new_project(self.session.api, judged.name)
        try:
            with progress(self.session, f"loading {judged.name}", len(judged.documents)) as tell:
                documents = loading.load(api, judged.documents, project, self.in_flight, tell)
            with progress(self.session, "waiting for vectors", None) as tell:
                lacking = loading.wait_for_vectors(api, self.versions, self.wait_seconds, tell)
            yield Loaded(project, documents, self._remarks(judged, documents, lacking, project))
        except BaseException as reason:
            if self._remove(project) and isinstance(reason, KeyboardInterrupt):
                self.session.screen.remark(f"interrupted: project {project} is removed", "yellow")
            raise
        if not self.keep:
            self._remove(project)

    def _remarks(self, judged: JudgedSet, documents: Mapping[str, str], lacking: int, project: str) -> list[str]:
        remarks = []
        if lacking:
            remarks.append(f"{number(lacking)} chunks of the store still lacked a vector")
        if left_out := len(judged.documents) - len(documents):
            remarks.append(f"{number(left_out)} documents without a text were left out")
        if judged.missing:
            remarks.append(f"{number(judged.missing)} answers are not among the documents")
        if self.keep:
            remarks.append(f"kept: ask it again with --judged … --project {project}")
        return remarks

    def _remove(self, project: str) -> bool:
        """Erase a project's memories, without which there is none; where that fails it is said, and stops nothing."""
        try:
            with progress(self.session, "removing", None) as tell:
                failed = loading.remove(self.session.api, project, self.in_flight, tell)
        except CommandError as failure:
            self._tell_of_rest(project, failure.detail)
            return False
        except KeyboardInterrupt:
            self._tell_of_rest(project, "interrupted")
            raise
        if failed:
            self._tell_of_rest(project, f"{number(failed)} of its memories could not be erased")
        return not failed

    def _tell_of_rest(self, project: str, reason: str) -> None:
        by_hand = f"memory list --project {project} shows what is left, memory delete ID --purge erases one"
        self.session.screen.remark(f"project {project} could not be removed: {reason}; {by_hand}", "yellow")


@contextlib.contextmanager
def progress(session: Session, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    with bars(session.screen) as show_bars:

        def tell(done: int) -> None:
            remark = f"{number(done)} of {number(total)}" if total else number(done)
            show_bars({name: Bar(min(1.0, done / total) if total else None, remark)})

        yield tell


def _new_project(api: ApiClient, name: str) -> str:
    """A project without memories. Its name is the same each time where nothing is kept: projects are never removed."""
    project = f"eval-{name}"[:180]
    projects = read(StatsDocument, api.get(paths.STATS)).projects
    if any(one.project == project and one.memories for one in projects):
        return f"{project}-{secrets.token_hex(4)}"
    return project
