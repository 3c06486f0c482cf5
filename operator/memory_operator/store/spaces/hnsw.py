"""HNSW indexes: their expressions, built beside the traffic, and how much of the nearest they find.

An index compares vectors as they are, as 16-bit numbers, or by their signs alone. What it shows is ranked by the
vectors themselves, so that a smaller index may miss some of the nearest, but never puts them in another order.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isnan

import asyncpg

from memory_operator.contract.known_models import DEFAULT_EF_CONSTRUCTION, DEFAULT_M
from memory_operator.logs import get_logger
from memory_operator.plan.index import FROM_VECTORS, Built, IndexInUse, Segment
from memory_operator.store.db.pool import EF_SEARCH, Conn, Row, Store
from memory_operator.store.spaces import registry, vectors
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

OPERATORS = {"cosine": "<=>", "l2": "<->", "dot": "<#>"}
_CLASSES = {"cosine": "cosine_ops", "l2": "l2_ops", "dot": "ip_ops"}

_LEAST_BY_SIGNS = 200
_TIMES_BY_SIGNS = 5
"""Signs tell little of what is nearest: so many times as many candidates are ranked by the vectors themselves."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An index of a space's table: one that it should have, or that queries use."""

    space_id: int
    column_type: str
    distance: str
    dimensions: int = 0
    """Of no matter to an index of the vectors as they are."""
    kind: Built = "hnsw"
    m: int = DEFAULT_M
    ef_construction: int = DEFAULT_EF_CONSTRUCTION
    job_id: int | None = None
    """The job whose table it is of, where one fills the space afresh."""
    segment: Segment | None = None
    """The chunks whose vectors it has; None: all."""

    @property
    def table(self) -> str:
        """The table that it is of."""
        return vectors.table(self.space_id, self.job_id)

    @property
    def name(self) -> str:
        """Its name, which says all that makes it another index."""
        kind = {"hnsw-halfvec": "halfvec_", "hnsw-binary": "binary"}.get(self.kind, "")
        distance = "" if self.kind == "hnsw-binary" else self.distance
        dense = (self.m, self.ef_construction) != (DEFAULT_M, DEFAULT_EF_CONSTRUCTION)
        suffix = f"_m{self.m}_ef{self.ef_construction}" if dense else ""
        said = f"hnsw_{kind}{distance}{suffix}"
        if self.segment is None:
            return f"{self.table}_{said}"
        # A name has 63 characters at most; what the index is of, its definition says.
        said = f"{said} {self.segment.first} {self.segment.end}"
        return f"{self.table}_hnsw_{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def in_use(space: Space) -> list[Wanted]:
    """The indexes that the queries of a space use."""
    return in_segments(of_space(space, space.distance, space.index), space.index.segments)


def in_segments(index: Wanted, segments: Sequence[Segment]) -> list[Wanted]:
    """The indexes of some segments; of none: one index of all vectors."""
    return [replace(index, segment=segment) for segment in segments] or [index]


def within(segment: Segment | None) -> str:
    """What limits the vectors `v` to a segment. A plan takes its index only where it sees these numbers."""
    return "true" if segment is None else f"v.chunk_id >= {int(segment.first)} and v.chunk_id < {int(segment.end)}"


def of_space(space: Space, distance: str, index: IndexInUse) -> Wanted:
    """An index of a space's table, which queries use or are to use."""
    return Wanted(space.id, space.column_type, distance, space.dimensions, index.kind, index.m, index.ef_construction)


def beyond(end: int) -> str:
    """What limits the vectors `v` to those behind all segments."""
    return f"v.chunk_id >= {int(end)}"


def _compared(index: Wanted, value: str) -> str:
    """What an index compares of a value of the column's type: the same of what is stored and of what is looked for."""
    if index.kind == "hnsw-binary":
        return f"(binary_quantize({value})::bit({int(index.dimensions)}))"
    if index.kind == "hnsw-halfvec" and index.column_type == "vector":
        return f"({value}::halfvec({int(index.dimensions)}))"
    return value


def nearness(index: Wanted, parameter: str) -> str:
    """What to order the rows `v` by, so that the index gives the order; the vector is a parameter of the statement."""
    operator = "<~>" if index.kind == "hnsw-binary" else OPERATORS[index.distance]
    looked_for = _compared(index, f"{parameter}::{index.column_type}")
    return f"{_compared(index, 'v.embedding')} {operator} {looked_for}"


def _operator_class(index: Wanted) -> str:
    if index.kind == "hnsw-binary":
        return "bit_hamming_ops"
    numbers = "halfvec" if index.kind == "hnsw-halfvec" else index.column_type
    return f"{numbers}_{_CLASSES[index.distance]}"


def candidates(kind: Built, limit: int) -> int:
    """How many an index of a kind is to show, so that the best `limit` are among them."""
    return max(_LEAST_BY_SIGNS, _TIMES_BY_SIGNS * limit) if kind == "hnsw-binary" else limit


_ARE_VALID = """
select count(*) from unnest($1::text[]) as n (name) join pg_index i on i.indexrelid = to_regclass(n.name)
where i.indisvalid
"""


async def are_valid(conn: Conn, *indexes: Wanted) -> bool:
    """Whether indexes are there and complete. An interrupted concurrent build leaves an invalid one behind."""
    return int(await conn.fetchval(_ARE_VALID, [each.name for each in indexes])) == len(indexes)


async def is_usable(conn: Conn, space: Space) -> bool:
    """Whether all the indexes that the queries of a space use are there."""
    return await are_valid(conn, *in_use(space))


async def vectors_to_index(conn: Conn, space_id: int) -> int:
    """How many vectors a space has; 0 where they are too few for an index."""
    counted = (await registry.counted(conn, [space_id])).get(space_id, 0)
    return counted if counted >= FROM_VECTORS else 0


_ONE_PROCESS = """set max_parallel_maintenance_workers = 0"""

_END_WITH_CLIENT = """set client_connection_check_interval = '2s'"""


async def build(store: Store, want: Wanted) -> bool:
    """Build an index unless a valid one is there; False where 16 bits cannot hold a number of the vectors.

    A build may take hours; it has no time limit of its own, but ends when its table goes or its session is cancelled.
    Only one process builds indexes of a space: `locks.index_lock`.
    """
    async with store.dedicated("memory-index") as conn:
        if await are_valid(conn, want):
            return True
        with suppress(asyncpg.InvalidParameterValueError):  # a platform on which the server cannot notice it
            # Else the build of a worker that was killed goes on, and its successor's waits for the end of it.
            await conn.execute(_END_WITH_CLIENT)
        try:
            try:
                await _create(conn, want)
            except asyncpg.DiskFullError:
                # Parallel builds share memory under /dev/shm, which containers keep at 64 MB.
                log.info("index build of space %s goes on without parallel workers", want.space_id)
                await conn.execute(_ONE_PROCESS)
                await _create(conn, want)
        except asyncpg.NumericValueOutOfRangeError:
            await conn.execute(_DROP.format(index=want.name))
            return False
    return True


_DROP = """drop index concurrently if exists {index}"""

_CREATE = """
create index concurrently {index} on {vectors} using hnsw ({compared} {operators})
with (m = {m}, ef_construction = {ef_construction}) {where}
"""

_OF_SEGMENT = """where chunk_id >= {first} and chunk_id < {end}"""


async def _create(conn: Conn, want: Wanted) -> None:
    of = want.segment
    await conn.execute(_DROP.format(index=want.name))
    await conn.execute(
        vectors.for_space(
            _CREATE,
            want.space_id,
            want.job_id,
            index=want.name,
            compared=_compared(want, "embedding"),
            operators=_operator_class(want),
            m=str(int(want.m)),
            ef_construction=str(int(want.ef_construction)),
            where="" if of is None else _OF_SEGMENT.format(first=int(of.first), end=int(of.end)),
        )
    )


_OTHERS = """
select i.indexrelid::regclass::text as name from pg_index i join pg_class c on c.oid = i.indexrelid
join pg_am a on a.oid = c.relam where i.indrelid = to_regclass($1) and a.amname = 'hnsw' and c.relname <> all($2)
and (not i.indisvalid or not $3)
"""


async def drop_others(store: Store, table: str, kept: Collection[Wanted], *, only_invalid: bool = False) -> None:
    """Drop a table's other HNSW indexes, once queries no longer use them; or those that a build left incomplete."""
    async with store.dedicated("memory-index") as conn:
        for row in await conn.fetch(_OTHERS, table, [each.name for each in kept], only_invalid):
            await conn.execute(_DROP.format(index=row["name"]))


_ENDS = """select min(v.chunk_id) as first, max(v.chunk_id) as last from {vectors} v where {within}"""

_SAMPLE = """
select distinct s.chunk_id, s.embedding from unnest($1::bigint[]) as u (id), lateral (
  select v.chunk_id, v.embedding::text as embedding from {vectors} v where v.chunk_id >= u.id
  order by v.chunk_id limit 1) s
"""

_NEAREST_OF_ALL = """
select v.embedding {operator} {vector} as distance from {vectors} v where v.chunk_id <> $1 and {within}
order by (v.embedding {operator} {vector}) + 0 limit $3
"""

_NEAREST_BY_INDEX = """
select v.embedding {operator} {vector} as distance from {vectors} v where v.chunk_id <> $1 and {within}
order by {nearness} limit $3
"""

_WITH_INDEX = """select set_config('enable_seqscan', 'off', false), set_config('hnsw.ef_search', $1, false)"""

_SAMPLED = 50
_TOP = 10
_SAME = 1e-6
"""Distances of equal vectors differ by less, whatever computed them."""


async def recall(store: Store, index: Wanted, sampled: int = _SAMPLED) -> float:
    """Share of the ten nearest that an index finds, 0…1, for some of its vectors, each among all others that it has.

    The table is read as often, which is short beside a build.
    """
    many = candidates(index.kind, _TOP)
    async with store.dedicated("memory-index") as conn:
        ends = await conn.fetchrow(vectors.for_space(_ENDS, index.space_id, within=within(index.segment)))
        if ends is None or ends["first"] is None:
            return 1.0
        places = [random.randint(ends["first"], ends["last"]) for _ in range(sampled)]
        sample = await conn.fetch(vectors.for_space(_SAMPLE, index.space_id), places)
        exact = [await _distances(conn, _NEAREST_OF_ALL, index, row, _TOP) for row in sample]
        await conn.fetch(_WITH_INDEX, str(max(EF_SEARCH, many)))
        shown = [await _distances(conn, _NEAREST_BY_INDEX, index, row, many) for row in sample]
    shares = [_share_found(*each) for each in zip(exact, shown, strict=True)]
    return sum(shares) / len(shares)


async def _distances(conn: Conn, statement: str, index: Wanted, row: Row, many: int) -> list[float]:
    vector = f"$2::text::{index.column_type}"
    text = vectors.for_space(
        statement,
        index.space_id,
        operator=OPERATORS[index.distance],
        vector=vector,
        nearness=nearness(index, "$2::text"),
        within=within(index.segment),
    )
    rows = await conn.fetch(text, row["chunk_id"], row["embedding"], many)
    return sorted(row["distance"] for row in rows if not isnan(row["distance"]))


def _share_found(exact: Sequence[float], shown: Sequence[float]) -> float:
    """By distance, since of equal texts it does not matter which is found."""
    if not exact:
        return 1.0
    farthest = exact[-1] + _SAME * (1 + abs(exact[-1]))
    return sum(distance <= farthest for distance in shown[: len(exact)]) / len(exact)
