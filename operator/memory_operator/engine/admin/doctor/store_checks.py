"""Checks of what is stored: which space answers, what it lacks, what waits, and what was left behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from memory_operator.engine.admin.doctor.report import Finding, Repair, Result, Scope
from memory_operator.engine.admin.spaces import Overview, last_error_of
from memory_operator.engine.admin.switchable import SpaceView
from memory_operator.engine.spaces.activation import ACTIVE_STATES
from memory_operator.engine.spaces.progress import JobView
from memory_operator.plan.coverage import ENOUGH_COVERAGE
from memory_operator.plan.index import MOST_UNINDEXED
from memory_operator.store.db.pool import Conn
from memory_operator.store.jobs import health
from memory_operator.store.jobs.health import PendingAge, Ranges
from memory_operator.store.spaces import hnsw
from memory_operator.store.spaces.providers import ProviderRow

LATE_SECONDS = 300.0
_FAR_TOO_LATE_SECONDS = 3_600.0
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store holds at about one moment, as far as a caller may hear of it."""

    overview: Overview
    views: Sequence[SpaceView]
    """Those that the caller may hear of."""
    rows: Sequence[ProviderRow]
    """Of Providers that exist, and that the caller may hear of."""
    hidden: int
    """Spaces that the caller may not hear of."""

    @classmethod
    def seen(cls, overview: Overview, rows: Sequence[ProviderRow], scope: Scope) -> Stored:
        """What a caller may hear of it."""
        views = [view for view in overview.views if scope.sees(view.space.ref.namespace)]
        there = [row for row in rows if row.absent_since is None and scope.sees(row.ref.namespace)]
        return cls(overview, views, there, len(overview.views) - len(views))

    @property
    def filled(self) -> list[SpaceView]:
        """The spaces that are to have a vector for each chunk."""
        return [view for view in self.views if view.space.state in ACTIVE_STATES]

    def open_job(self, view: SpaceView) -> JobView | None:
        """The job of a space that runs or is paused."""
        for job in self.overview.jobs:
            if job.named.job.space_id == view.space.id and job.named.job.state in ("running", "paused"):
                return job
        return None


def active_space(stored: Stored) -> Finding:
    """Which space queries read."""
    active = next((view for view in stored.overview.views if view.figures.active), None)
    if active is not None:
        if active not in stored.views:
            return Finding("active-space", "ok", "a space is active")
        version = active.space.embedding_version
        return Finding("active-space", "ok", f"queries read {version} of {active.space.ref}", version)
    if stored.overview.semantic_status == "disabled":
        remedy = "memory embeddings activate NAME"
        return Finding("active-space", "warn", "semantic search is turned off", remedy=remedy)
    if stored.overview.views:
        message = "no space is active, so queries find by words only"
        return Finding("active-space", "fail", message, remedy="memory embeddings activate NAME")
    remedy = "kubectl apply a Provider with role embedding (in dev: put its manifest into the folder)"
    return Finding("active-space", "fail", "there is no embedder", remedy=remedy)


def held(stored: Stored, scope: Scope) -> Iterator[Finding]:
    """Changes that wait for consent."""
    for change in stored.overview.held:
        if scope.sees(change.ref.namespace):
            effect = change.effect
            waits = "has its consent, and waits" if change.marker == "waiting" else "waits for consent"
            message = (
                f"the change from {effect.from_dim} to {effect.to_dim} dimensions {waits};"
                f" it discards {effect.vectors_discarded:,} vectors"
            )
            remedy = f"memory embeddings consent {effect.to_dim} --provider {change.ref}, or revert the edit"
            if change.marker == "waiting":
                message, remedy = f"{message}; {change.message}", "correct the Provider"
            elif change.doubt:
                message, remedy = f"{message}; {change.doubt}", "correct the Provider"
            yield Finding("held", "warn", message, str(change.ref), remedy)


def coverage(stored: Stored, repairs: Mapping[int, Repair]) -> Iterator[Finding]:
    """Spaces whose vectors are fewer than the chunks."""
    for view in stored.filled:
        if view.coverage >= 1:
            continue
        figures, version = view.figures, view.space.embedding_version
        lacking = figures.chunks - figures.quarantined - figures.vectors
        message = f"{lacking:,} of {figures.chunks:,} chunks have no vector ({view.coverage:.2%} do)"
        job = stored.open_job(view)
        if job is not None and job.named.job.state == "running":
            result: Result = "warn" if figures.active else "ok"
            watch = f"memory embeddings status {version} --watch"
            yield Finding("coverage", result, f"{message}; job {job.named.job.id} makes them", version, watch)
        elif not view.space.create_enabled and not figures.active:
            yield Finding("coverage", "ok", f"{message}; it was told to get none", version)
        else:
            result = "fail" if figures.active and view.coverage < ENOUGH_COVERAGE else "warn"
            command = f"memory embeddings reembed --space {version}"
            yield Finding("coverage", result, message, version, command, repairs.get(view.space.id))


def quarantine(stored: Stored, repairs: Mapping[int, Repair]) -> Iterator[Finding]:
    """Chunks that embedders refuse."""
    for view in stored.views:
        if count := view.figures.quarantined:
            version = view.space.embedding_version
            command = f"memory embeddings quarantine --space {version}"
            message = f"the embedder refuses {count:,} chunks"
            repair = repairs.get(view.space.id) if view.coverage >= 1 else None
            yield Finding("quarantine", "warn", message, version, command, repair)


async def orphans(conn: Conn, stored: Stored, scope: Scope) -> list[Finding]:
    """Spaces without a Provider, and tables without a space."""
    found = []
    for view in stored.views:
        if view.space.state == "orphaned":
            message = f"the Provider {view.space.ref} is gone; {view.figures.vectors:,} vectors are kept for it"
            remedy = "apply the Provider again, or: memory embeddings prune"
            found.append(Finding("orphans", "warn", message, view.space.embedding_version, remedy))
    if scope.visible is None:
        for name, size in (await health.tables_left_behind(conn)).items():
            message = f"the table {name} ({size // _MIB:,} MiB) belongs to no space"
            found.append(Finding("orphans", "warn", message, name, f'as its owner: psql -c "DROP TABLE {name}"'))
    return found


def quiet(stored: Stored) -> Iterator[Finding]:
    """One line for each check of the spaces, for where it found nothing."""
    retired = sum(view.space.state == "retired" for view in stored.views)
    kept = f"; {retired} retired are kept until memory embeddings prune" if retired else ""
    spaces = "1 space" if len(stored.filled) == 1 else f"{len(stored.filled)} spaces"
    yield Finding("held", "ok", "no change waits for consent")
    yield Finding("coverage", "ok", f"{stored.overview.chunks:,} chunks, each with a vector in {spaces}")
    yield Finding("orphans", "ok", f"no space is orphaned{kept}")
    yield Finding("jobs", "ok", "no job waits for anybody")
    yield Finding("pending", "ok", "nothing waits for long")
    yield Finding("quarantine", "ok", "no chunk is refused")


async def space_indexes(conn: Conn, stored: Stored) -> list[Finding]:
    """Spaces that want an index, have the vectors for one, and have none that queries can use."""
    found = []
    for view in stored.views:
        space = view.space
        large = await hnsw.vectors_to_index(conn, space.id)
        if space.state != "ready" or not large or space.config.index.kind == "none" or space.index.kind == "none":
            continue
        version = space.embedding_version
        remedy = "let a worker run, it builds the index: kubectl get deploy -l app.kubernetes.io/component=worker"
        if view.unindexed > MOST_UNINDEXED:
            message = f"more than {MOST_UNINDEXED:,} vectors of {version} are not in its index: queries read them all"
            found.append(Finding("indexes", "warn", message, version, remedy))
        if not await hnsw.is_usable(conn, space):
            result: Result = "fail" if view.figures.active else "warn"
            message = f"the index that queries of {version} need is not there: each reads {large:,} vectors"
            found.append(Finding("indexes", result, message, version, remedy))
    return found


async def work(conn: Conn, stored: Stored) -> list[Finding]:
    """Jobs that wait for somebody, ranges that were left, and chunks that wait for long."""
    workers, ranges, waiting = await health.workers(conn), await health.ranges(conn), await health.waiting(conn)
    found = [*_jobs(stored, workers, waiting), *_pending(stored, waiting)]
    return [*found, _leases(ranges)]


def _jobs(stored: Stored, workers: int, waiting: Mapping[int, PendingAge]) -> Iterator[Finding]:
    visible = {view.space.id: view for view in stored.views}
    shown = [job.named for job in stored.overview.jobs if job.named.job.space_id in {*visible, None}]
    running = [named for named in shown if named.job.state == "running"]
    if not workers and (running or waiting):
        remedy = "start one: memory-operator worker, or kubectl scale deploy/…-worker --replicas 1"
        yield Finding("jobs", "fail", "there is work, and no worker is alive", remedy=remedy)
    for named in shown:
        job, subject = named.job, named.embedding_version or named.job.kind
        if job.state == "paused":
            why = f" ({job.message})" if job.message else ""
            remedy = f"memory embeddings resume {job.id}"
            if job.paused_for == "budget":
                remedy = f"raise spec.embedding.budget of {named.ref}; the job then goes on by itself"
            yield Finding("jobs", "warn", f"job {job.id} is paused{why}", subject, remedy)
    for named in running:
        job, age = named.job, (datetime.now(UTC) - named.job.created_at).total_seconds()
        if workers and job.kind != "reindex" and job.first_call_at is None and not job.done and age > LATE_SECONDS:
            message = f"job {job.id} was begun {age / 60:.0f} minutes ago and has made no call"
            remedy = "look at the workers' log: kubectl logs -l app.kubernetes.io/component=worker"
            yield Finding("jobs", "warn", message, named.embedding_version or job.kind, remedy)


def _pending(stored: Stored, waiting: Mapping[int, PendingAge]) -> Iterator[Finding]:
    for view in stored.views:
        found = waiting.get(view.space.id)
        if found is None or found.seconds < LATE_SECONDS:
            continue
        result: Result = "fail" if found.seconds > _FAR_TOO_LATE_SECONDS else "warn"
        error = last_error_of(view)
        why = f": {error}" if error else ""
        message = f"{found.chunks:,} chunks wait for a vector, the oldest for {found.seconds / 60:.0f} minutes{why}"
        remedy = f"kubectl -n {view.space.ref.namespace} describe provider {view.space.ref.name}, and the workers' log"
        yield Finding("pending", result, message, view.space.embedding_version, remedy)


def _leases(ranges: Ranges) -> Finding:
    if not ranges.expired and not ranges.ended:
        return Finding("leases", "ok", f"{ranges.claimed} ranges are claimed, none was left")
    message = f"{ranges.expired} ranges expired a minute ago and more, {ranges.ended} are of jobs that ended"
    remedy = "memory doctor --fix, or let a worker run: it claims them"
    return Finding("leases", "warn", message, remedy=remedy, repair=Repair("release-leases"))


def filled_in(found: Sequence[Finding], quiet_ones: Iterator[Finding]) -> list[Finding]:
    """What was found, and for each check that found nothing the line that says so."""
    there = {finding.check for finding in found}
    return [*found, *(finding for finding in quiet_ones if finding.check not in there)]
