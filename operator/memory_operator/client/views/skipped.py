"""The chunks that a job skipped, with memory and reason."""

from __future__ import annotations

from collections.abc import Iterable

from memory_operator.client.errors import RefusedError
from memory_operator.client.server import paths
from memory_operator.client.server.begun import SkippedDocument
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import JobDocument
from memory_operator.client.session import Session
from memory_operator.client.terminal.format import number, one_line

SHOWN = 20


def show_skipped(session: Session, jobs: Iterable[JobDocument]) -> None:
    """On stderr, what some jobs skipped: the first of each."""
    for job in jobs:
        if not job.quarantined or job.embedding_version is None or session.screen.as_json:
            continue
        try:
            found = read(SkippedDocument, session.api.get(paths.job(job.id, "skipped"), limit=SHOWN))
        except RefusedError as refusal:
            session.screen.remark(f"! what job {job.id} skipped cannot be listed: {refusal.detail}", "yellow")
            continue
        for each in found.skipped:
            rest = "has no vector" if each.quarantined else "keeps its vector"
            reason = one_line(each.reason)
            session.screen.remark(f"! {each.id} of memory {each.memory} is skipped, {rest}: {reason}", "yellow")
        left = job.quarantined - len(found.skipped)
        if left > 0:
            session.screen.remark(f"and {number(left)} more: memory embeddings quarantine --job {job.id}")
