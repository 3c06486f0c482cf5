"""Whether the models of spaces are still there, and still the same ones: what vendors said, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from memory_operator.store.db.pool import Conn
from memory_operator.store.spaces import registry

GONE_SECONDS = 60.0
"""How long a vendor must have said that a model is gone, without embedding in between, to be believed."""

DRIFTS = 2
"""Checks in a row that must have found a model to be another one."""


@dataclass(frozen=True, slots=True)
class ModelChecks:
    """What is known of the model of one space."""

    space_id: int
    gone_since: datetime | None
    """Since when the vendor has no such model any more; None where it has."""
    drifted_since: datetime | None
    """Since when it makes other vectors than it did; None while it does not."""
    drift: float | None
    """Mean cosine distance of fixed texts from what they were at first; None before it was measured."""
    noise: float | None
    """The largest cosine distance of texts that were embedded twice at first."""


_SOME = """
select c.space_id, case when c.gone_seen_at >= c.gone_since + make_interval(secs => $2) then c.gone_since end
  as gone_since, case when c.drifts >= $3 then c.drifted_since end as drifted_since, c.drift, c.noise
from memory_model_checks c where $1::bigint[] is null or c.space_id = any($1)
"""


async def some(conn: Conn, space_ids: Sequence[int] | None) -> dict[int, ModelChecks]:
    """Those of some spaces, or of all, by space."""
    rows = await conn.fetch(_SOME, space_ids, GONE_SECONDS, DRIFTS)
    return {row["space_id"]: ModelChecks(**dict(row)) for row in rows}


# Said once, and then not for half an hour: it was not meant.
_NOTE_GONE = """
insert into memory_model_checks as c (space_id, gone_since, gone_seen_at)
select id, now(), now() from memory_embedding_spaces where id = $1
on conflict (space_id) do update set gone_seen_at = now(),
gone_since = case when c.gone_seen_at > now() - interval '30 min' then coalesce(c.gone_since, now()) else now() end
where c.gone_seen_at is null or c.gone_seen_at < now() - interval '1 s'
"""


async def note_gone(conn: Conn, space_id: int) -> None:
    """Keep that the vendor of a space has just said that it has no such model."""
    await conn.execute(_NOTE_GONE, space_id)


_NOTE_THERE = """
update memory_model_checks set gone_since = null, gone_seen_at = null
where space_id = $1 and gone_seen_at is not null returning true
"""


async def note_there(conn: Conn, space_id: int) -> None:
    """Keep that the model of a space has just made vectors."""
    if await conn.fetchval(_NOTE_THERE, space_id):
        await registry.announce(conn)


@dataclass(frozen=True, slots=True)
class DueCheck:
    """A space whose model is to be compared with what it was."""

    space_id: int
    fingerprint: bytes | None
    """The first vectors of the fixed texts, as 4-byte numbers; None: these are to be made."""
    noise: float | None


_SOON_SECONDS = 600.0
_RETRY_SECONDS = 300.0
_DAY_SECONDS = 86_400.0

_SCHEDULE = """
insert into memory_model_checks as c (space_id, due_at)
select s.id, now() + make_interval(secs => $1 * (0.5 + random())) from memory_embedding_spaces s
where s.state = 'ready' and not exists (
  select from memory_model_checks k where k.space_id = s.id and k.due_at is not null)
on conflict (space_id) do update set due_at = excluded.due_at where c.due_at is null
"""


async def schedule(conn: Conn) -> None:
    """Have the models of spaces that are new checked soon, not all of them at once."""
    await conn.execute(_SCHEDULE, _SOON_SECONDS)


_CLAIM = """
update memory_model_checks c set due_at = now() + make_interval(secs => $1) where c.space_id = (
  select k.space_id from memory_model_checks k join memory_embedding_spaces s on s.id = k.space_id
  where k.due_at <= now() and s.state in ('filling', 'ready') and s.trouble is null
  order by k.due_at limit 1 for update of k skip locked)
returning c.space_id, c.fingerprint, c.noise
"""


async def claim(conn: Conn) -> DueCheck | None:
    """A space whose check is due; where it comes to nothing it is due again after some minutes."""
    row = await conn.fetchrow(_CLAIM, _RETRY_SECONDS)
    return DueCheck(**dict(row)) if row else None


_RECORD_FIRST = """
update memory_model_checks set fingerprint = $2, noise = $3, drift = 0, drifts = 0, drifted_since = null,
due_at = now() + make_interval(secs => $4 * (0.9 + 0.2 * random())) where space_id = $1
"""


async def record_first(conn: Conn, space_id: int, fingerprint: bytes, noise: float) -> None:
    """Keep what the fixed texts' vectors are at first, and how far two calls in a row were from each other."""
    await conn.execute(_RECORD_FIRST, space_id, fingerprint, noise, _DAY_SECONDS)


_RECORD = """
update memory_model_checks c set drift = $2, drifts = case when $3 then c.drifts + 1 else 0 end,
drifted_since = case when $3 then coalesce(c.drifted_since, now()) end,
due_at = now() + case when $3 and c.drifts + 1 < $4 then make_interval(secs => $5)
  else make_interval(secs => $6 * (0.9 + 0.2 * random())) end
where c.space_id = $1
"""


async def record(conn: Conn, space_id: int, drift: float, *, drifted: bool) -> None:
    """Keep how far the fixed texts' vectors are from the first ones; a drift is looked at again soon."""
    await conn.execute(_RECORD, space_id, drift, drifted, DRIFTS, _SOON_SECONDS, _DAY_SECONDS)
    await registry.announce(conn)


_FORGET = """
update memory_model_checks set fingerprint = null, noise = null, drift = null, drifts = 0, drifted_since = null,
due_at = null where space_id = $1
"""


async def forget(conn: Conn, space_id: int) -> None:
    """Begin anew with a space whose vectors have all been made anew."""
    await conn.execute(_FORGET, space_id)
