"""Re-embed jobs: what is to be done for a space, how far it is, and what it has cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from memory_operator.store.db.pool import Conn, Row
from memory_operator.store.jobs import missing
from memory_operator.store.jobs.parts import Part
from memory_operator.store.spaces import registry, vectors
from memory_operator.store.spaces.vectors import Reach

CHANNEL = "memory_work"
"""NOTIFY channel that wakes workers."""

Kind = Literal["fill", "reembed", "reindex"]
State = Literal["running", "paused", "done", "cancelled"]

RANGE_IDS = 2_000
REPLACE_RANGE_IDS = 256
"""Where vectors are replaced in place, nothing shows which were: an interrupted range is paid again as a whole."""


@dataclass(frozen=True, slots=True)
class Job:
    """A walk over chunks, for one space, or over memories, to make their chunks anew."""

    id: int
    kind: Kind
    space_id: int | None
    """None for a reindex."""
    project_id: int | None
    """Only this project's chunks; None: the whole store."""
    replace: bool
    """Whether chunks that have a vector get a new one."""
    state: State
    paused_for: str | None
    """Who paused it: user, budget."""
    message: str | None
    requested_by: str
    bound: int
    """Highest id that the walk covers; what came later is found at the switch."""
    total: int
    done: int
    copied: int
    """Of those done: vectors taken from an equal text instead of paid."""
    quarantined: int
    calls: int
    tokens: int | None
    """Tokens that the vendor counted; None as long as it has not said."""
    cost: Decimal | None
    spent_tokens: int
    """What counts against the budget: with estimates where the vendor does not say."""
    spent_cost: Decimal
    created_at: datetime
    first_call_at: datetime | None
    finished_at: datetime | None
    max_rows: int | None
    """It ends after so many chunks, the oldest first; None: all of them."""
    sleep_ms: int
    """How long each worker waits after one of its calls before the next one."""

    @property
    def is_partial(self) -> bool:
        """Whether its end says nothing about the rest of the store."""
        return self.project_id is not None or self.max_rows is not None

    @property
    def reach(self) -> Reach:
        """The chunks that it may change."""
        return Reach(self.project_id, None if self.max_rows is None else self.bound)

    @property
    def fresh_id(self) -> int | None:
        """Its id, where it fills a table afresh that takes the place of its space's; None for all other jobs."""
        return self.id if self.replace and not self.is_partial and self.kind != "reindex" else None


_JOB = (
    "j.id, j.kind, j.space_id, j.project_id, j.replace, j.state, j.paused_for, j.message, j.requested_by, j.bound,"
    " j.total, j.done, j.copied, j.quarantined, j.calls, j.tokens, j.cost, j.spent_tokens, j.spent_cost,"
    " j.created_at, j.first_call_at, j.finished_at, j.max_rows, j.sleep_ms"
)


def _job(row: Row) -> Job:
    return Job(**dict(row))


_OPEN_JOB = """select id from memory_reembed_jobs where space_id = $1 and state in ('running', 'paused')"""

_START = """
insert into memory_reembed_jobs (space_id, bound, total, kind, project_id, replace, requested_by, max_rows, sleep_ms)
values ($1, coalesce($7, (select max(id) from memory_chunks), 0), $2, $3, $4, $5, $6, $8, $9) returning id
"""

_FORGET_SKIPPED = """
delete from memory_reembed_skipped where job_id in (select id from memory_reembed_jobs where space_id = $1)
"""


async def start(
    conn: Conn,
    space_id: int,
    *,
    kind: Kind = "fill",
    part: Part | None = None,
    replace: bool = False,
    requested_by: str = "memory-operator",
    sleep_ms: int = 0,
) -> int:
    """Begin a fill of a space, or of a part of it, unless one is open; the job's id. Nothing is counted one by one.

    The registry is locked exclusively: every writer that did not know of this space has committed, so the bound
    covers all that they wrote, and whatever is written later is written with the space in mind.
    """
    existing = await conn.fetchval(_OPEN_JOB, space_id)
    if existing is not None:
        return int(existing)
    if kind == "reembed":  # not what follows one by itself
        await conn.execute(_FORGET_SKIPPED, space_id)
    part = part or Part(None, await missing.count_all(conn, space_id, have_too=replace))
    of_part = (part.project_id, replace, requested_by, part.reach.upto_id, part.max_rows, sleep_ms)
    job_id = await conn.fetchval(_START, space_id, part.chunks, kind, *of_part)
    await create_ranges(conn, int(job_id))
    await wake(conn)
    return int(job_id)


_CREATE_RANGES = """
insert into memory_reembed_leases (job_id, after_id, upto_id)
select j.id, lo, least(lo + w.width, j.bound) from memory_reembed_jobs j,
lateral (select case when j.replace and coalesce(j.project_id, j.max_rows) is not null
  then $2::int else $3::int end as width) w,
lateral (select coalesce(min(id), 1) - 1 as first from memory_chunks where live) f,
generate_series(f.first, j.bound - 1, w.width) as lo where j.id = $1
"""


async def create_ranges(conn: Conn, job_id: int) -> None:
    """Cut all that a job covers into ranges, to be walked (once more)."""
    await conn.execute(_CREATE_RANGES, job_id, REPLACE_RANGE_IDS, RANGE_IDS)


_RECREATE_RANGES = """
select not exists (select 1 from memory_reembed_leases l where l.job_id = j.id) from memory_reembed_jobs j
where j.id = $1 and j.state = 'running' for update
"""


async def recreate_ranges(conn: Conn, job_id: int) -> bool:
    """Cut a walked job into ranges once more; False when it is no longer running, or another process has done so."""
    exhausted = await conn.fetchval(_RECREATE_RANGES, job_id)
    if exhausted:
        await create_ranges(conn, job_id)
    return bool(exhausted)


_WAKE = """select pg_notify($1, '')"""


async def wake(conn: Conn) -> None:
    """Tell the workers, once this transaction commits, that there is something to do."""
    await conn.execute(_WAKE, CHANNEL)


_CANCEL_RANGES = """
delete from memory_reembed_leases where state = 'open' and job_id in
(select id from memory_reembed_jobs where space_id = $1 and state in ('running', 'paused'))
"""

_CANCEL = """
update memory_reembed_jobs set state = 'cancelled', finished_at = now()
where space_id = $1 and state in ('running', 'paused')
"""


async def cancel(conn: Conn, space_id: int) -> None:
    """End the open job of a space without completing it; what is under way for it is paid, and is still stored."""
    # The ranges before the job, as the workers take them that are in the middle of a batch: else both wait for ever.
    await conn.execute(_CANCEL_RANGES, space_id)
    await conn.execute(_CANCEL, space_id)


_GET = f"""select {_JOB} from memory_reembed_jobs j where j.id = $1"""


async def get(conn: Conn, job_id: int) -> Job | None:
    """One job."""
    row = await conn.fetchrow(_GET, job_id)
    return _job(row) if row else None


_RUNNING = f"""select {_JOB} from memory_reembed_jobs j where j.space_id = $1 and j.state = 'running'"""


async def running(conn: Conn, space_id: int) -> Job | None:
    """The job of a space that runs."""
    row = await conn.fetchrow(_RUNNING, space_id)
    return _job(row) if row else None


_IS_RUNNING = """select exists (select 1 from memory_reembed_jobs where id = $1 and state = 'running')"""


async def is_running(conn: Conn, job_id: int) -> bool:
    """Whether a job runs."""
    return bool(await conn.fetchval(_IS_RUNNING, job_id))


_OPEN_FILLS = f"""
select {_JOB} from memory_reembed_jobs j where j.state in ('running', 'paused') and j.space_id is not null
order by j.id
"""


async def open_fills(conn: Conn) -> list[Job]:
    """Jobs of spaces that run or are paused, oldest first."""
    rows = await conn.fetch(_OPEN_FILLS)
    return [_job(row) for row in rows]


_PAUSE_FOR_BUDGET = """
update memory_reembed_jobs set state = 'paused', paused_for = 'budget', message = $2, paused_left = $3
where id = $1 and state = 'running' returning true
"""


async def pause_for_budget(conn: Conn, job_id: int, message: str, needed: int) -> bool:
    """Pause a running job whose budget is used up, until so many tokens are left of it; False when it does not run."""
    paused = await conn.fetchval(_PAUSE_FOR_BUDGET, job_id, message, needed - 1)
    if paused:
        await registry.announce(conn)
    return bool(paused)


_RESUME_WITHIN_BUDGET = """
update memory_reembed_jobs set state = 'running', paused_for = null, message = null
where id = $1 and state = 'paused' and paused_for = 'budget' and ($2::bigint is null or $2 > paused_left)
returning true
"""


async def resume_within_budget(conn: Conn, job_id: int, left: int | None) -> bool:
    """Let a job that is paused for its budget run again, where as much is left of it as it needs."""
    resumed = await conn.fetchval(_RESUME_WITHIN_BUDGET, job_id, left)
    if resumed:
        await registry.announce(conn)
        await wake(conn)
    return bool(resumed)


_ADVANCE = """
update memory_reembed_jobs set done = done + $2, copied = copied + $3, quarantined = quarantined + $4
where id = $1
"""


async def advance(conn: Conn, job_id: int, done: int, copied: int, quarantined: int) -> None:
    """Add to a job what a commit stored: vectors, those of them that were copied, chunks that were refused."""
    await conn.execute(_ADVANCE, job_id, done, copied, quarantined)


_BEGIN_CALLS = """
update memory_reembed_jobs set first_call_at = now() where id = $1 and first_call_at is null
"""


async def begin_calls(conn: Conn, job_id: int) -> None:
    """Note when the first call of a job left."""
    await conn.execute(_BEGIN_CALLS, job_id)


_EXHAUSTED = f"""
select {_JOB} from memory_reembed_jobs j where j.state = 'running'
and j.space_id is not null and not exists (select 1 from memory_reembed_leases l where l.job_id = j.id)
order by j.id
"""


async def exhausted(conn: Conn) -> list[Job]:
    """Running jobs without a range left: ready to be completed."""
    rows = await conn.fetch(_EXHAUSTED)
    return [_job(row) for row in rows]


_LATEST = f"""
select {_JOB} from memory_embedding_spaces s
join memory_reembed_jobs j on j.id = (select max(n.id) from memory_reembed_jobs n where n.space_id = s.id)
where $1::bigint[] is null or s.id = any($1)
"""


async def latest(conn: Conn, space_ids: Sequence[int] | None = None) -> dict[int, Job]:
    """The newest job of some spaces, or of each."""
    rows = await conn.fetch(_LATEST, space_ids)
    return {row["space_id"]: _job(row) for row in rows}


_FINISH = """
update memory_reembed_jobs set state = 'done', finished_at = now()
where id = $1 and state = 'running' returning true
"""


async def finish(conn: Conn, job_id: int) -> bool:
    """The space has all that it can have; False when the job is no longer running."""
    return bool(await conn.fetchval(_FINISH, job_id))


_RAISE_BOUND = """
update memory_reembed_jobs set bound = greatest(bound, coalesce((select max(id) from memory_chunks), 0))
where id = $1 and state = 'running'
"""

_QUEUE_LATE_CHUNKS = """
insert into memory_embedding_pending (space_id, chunk_id)
select $1, c.id from memory_chunks c where c.live and c.id > $2 and ($3::int is null or c.project_id = $3)
and not exists (select 1 from {vectors} v where v.chunk_id = c.id)
and not exists (select 1 from memory_embedding_quarantine q where q.space_id = $1 and q.chunk_id = c.id)
order by c.id for share of c on conflict do nothing returning 1
"""


async def queue_late_chunks(conn: Conn, job: Job) -> int:
    """Mark as pending what came after a fill's bound and was not written for its space; how many there were.

    The bound is raised first: what is stored meanwhile, below it, is found among the chunks up to the bound.
    """
    await conn.execute(_RAISE_BOUND, job.id)
    statement = vectors.for_space(_QUEUE_LATE_CHUNKS, job.space_id or 0)
    return len(await conn.fetch(statement, job.space_id, job.bound, job.project_id))


_BEGIN_CLOSING = """
with begun as (update memory_reembed_jobs j set closing_at = now() where j.id = $1 and j.state = 'running'
  and (j.closing_at is null or j.closing_at < now() - interval '30 s')
  and exists (select 1 from memory_embedding_spaces s where s.id = j.space_id and s.trouble is null) returning 1)
select exists (select 1 from begun) or exists (select 1 from memory_reembed_jobs j
  where j.id = $1 and j.closing_at > now() - interval '10 s')
"""


async def begin_closing(conn: Conn, job_id: int) -> bool:
    """Have writes embed for a job's space too, for ten seconds, so that nothing new is in the way of its end.

    False where its embedder gives no vectors, or ten seconds were not enough just now.
    """
    return bool(await conn.fetchval(_BEGIN_CLOSING, job_id))


_NOTE_LAST_ERROR = """
with changed as (update memory_embedding_spaces set trouble_code = $2, trouble = $3
 where id = $1 and trouble is distinct from $3 returning 1)
select pg_notify($4, '') from changed
"""


async def note_last_error(conn: Conn, space_id: int, code: str | None, text: str | None) -> None:
    """Keep why a space's embedder gives no vectors, None when it does again; the operator is told of a change."""
    await conn.execute(_NOTE_LAST_ERROR, space_id, code, text, registry.CHANNEL)


# Where nothing waits for a space's embedder nobody calls it, and what was last heard of it says nothing. The first of
# what waits, by the index: to tell whether there is any, the planner may hash all that is pending.
_LAST_ERRORS = """
select s.id, s.trouble_code, s.trouble from memory_embedding_spaces s
where s.trouble is not null and ($1::bigint[] is null or s.id = any($1)) and coalesce(
  (select j.id from memory_reembed_jobs j where j.space_id = s.id and j.state in ('running', 'paused')),
  (select w.chunk_id from memory_embedding_pending w where w.space_id = s.id order by w.chunk_id limit 1)) is not null
"""


async def last_errors(conn: Conn, space_ids: Sequence[int] | None = None) -> dict[int, tuple[str, str]]:
    """Those of some spaces, or of all, whose embedder gives no vectors at the moment: code and text by space."""
    rows = await conn.fetch(_LAST_ERRORS, space_ids)
    return {row["id"]: (row["trouble_code"], row["trouble"]) for row in rows}
