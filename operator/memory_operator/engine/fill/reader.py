"""The reader of a fill: claims ranges, copies what equal texts have already, decrypts the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from memory_operator import traces
from memory_operator.engine.embedding.spans import space_span
from memory_operator.engine.fill.batch import TOO_LARGE, ClaimedRange
from memory_operator.engine.fill.commit_size import CommitSize
from memory_operator.engine.fill.inflight import InFlight
from memory_operator.errors import LeaseLost
from memory_operator.logs import get_logger
from memory_operator.memory.encryption import Undecryptable
from memory_operator.store.db.pool import STATEMENT_SECONDS, Conn, Store
from memory_operator.store.jobs import jobs, leases, missing, quarantine, skipped
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.jobs.leases import Backend, Lease
from memory_operator.store.jobs.missing import StoredChunk
from memory_operator.store.memories.tenants import KeyRing
from memory_operator.store.spaces import registry, vectors
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.spaces.vectors import EVERYWHERE

log = get_logger(__name__)

PENDING_ROWS = 1_000
"""Pending chunks taken at a time."""
_COPIES_TRIED = 5
"""Chunks with the same text that are read in place of one that cannot be."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where chunks are from: a range of a job, those that are pending, or those that were refused."""

    space: Space
    job: Job | None = None
    claimed: ClaimedRange | None = None
    refused: bool = False

    @property
    def fresh_id(self) -> int | None:
        """The job, where it fills a table afresh: nothing of the space itself changes until that takes its place."""
        return self.job.fresh_id if self.job else None


class Reader:
    """Reads chunks of one space, and adds those that have to be sent to what is in flight."""

    def __init__(self, store: Store, keys: KeyRing, in_flight: InFlight, name: str, presence: int) -> None:
        self._store = store
        self._keys = keys
        self._in_flight = in_flight
        self._name = name
        self._presence = presence
        self._size = CommitSize(STATEMENT_SECONDS)

    async def read_pending(self, space: Space) -> bool:
        """Read pending chunks; False when there are none that nobody works on."""
        async with self._store.connection() as conn:
            taken = await missing.take_pending(conn, space.id, self._presence, PENDING_ROWS)
        if not taken:
            return False
        with space_span("fill.read", space) as span:
            await self._add(_Origin(space), taken, span)
        return True

    async def read_quarantined(self, space: Space) -> bool:
        """Read refused chunks whose next try is due; False when there are none."""
        async with self._store.connection() as conn:
            due = await quarantine.take_due(conn, space.id, PENDING_ROWS)
            chunks = await missing.among(conn, space.id, due) if due else []
            if len(chunks) < len(due):
                await quarantine.take_out(conn, space.id, set(due) - {chunk.id for chunk in chunks})
        if not due:
            return False
        with space_span("fill.read", space) as span:
            await self._add(_Origin(space, refused=True), chunks, span)
        return True

    async def read_range(self, space: Space, job: Job, backend: Backend) -> bool:
        """Claim a range and read its chunks; False when there is none to claim."""
        with self._store.metrics.fill_stage_seconds.labels("read").time(), ExitStack() as traced:
            async with self._store.connection() as conn:
                lease = await leases.claim(conn, job.id, self._name, self._presence, backend)
            if lease is None:
                return False
            claimed = self._in_flight.begin_range(lease)
            if claimed is None:
                return True
            span = traced.enter_context(space_span("fill.read", space, job))
            try:
                await self._read(_Origin(space, job, claimed), lease, span)
            except LeaseLost as lost:
                log.info("%s", lost)
                self._in_flight.lose(lost.lost)
                return True
            except BaseException:
                self._in_flight.fail_reading(claimed)
                raise
        if self._in_flight.end_reading(claimed):
            async with self._store.connection() as conn:
                if claimed.given_up:
                    await leases.release(conn, [lease])
                else:
                    await leases.finish(conn, [lease])
        return True

    async def _read(self, origin: _Origin, lease: Lease, span: traces.Span) -> None:
        job = origin.job
        assert job is not None
        async with self._store.connection() as conn:
            found = await missing.in_range(
                conn,
                origin.space.id,
                lease,
                project_id=job.project_id,
                have_too=job.replace and job.fresh_id is None,
                fresh_id=job.fresh_id,
            )
        await self._add(origin, found, span)

    async def _add(self, origin: _Origin, chunks: Sequence[StoredChunk], span: traces.Span) -> None:
        """Settle what is known already, and have the rest sent, decrypted; one that cannot be stops no other."""
        replaces = origin.job is not None and origin.job.replace and origin.fresh_id is None
        unknown = chunks if replaces else await self._without_known(origin, chunks)
        try:
            texts = await self._keys.chunk_texts(self._store, unknown)
            self._in_flight.add(unknown, texts, origin.claimed, origin.job)
        except Undecryptable:
            for chunk in unknown:
                try:
                    texts = [await self._text_of(chunk)]
                except Undecryptable as error:
                    self._in_flight.refuse(chunk, origin.claimed, origin.job, error.message)
                else:
                    self._in_flight.add([chunk], texts, origin.claimed, origin.job)
        span.note(chunks=len(chunks), to_embed=len(unknown))

    async def _text_of(self, chunk: StoredChunk) -> str:
        """The text of a chunk, out of another one that has the same where its own cannot be read.

        It may stand for those, which are whole. Raises Undecryptable.
        """
        try:
            return (await self._keys.chunk_texts(self._store, [chunk]))[0]
        except Undecryptable:
            async with self._store.connection() as conn:
                others = await missing.with_same_text(conn, chunk, _COPIES_TRIED)
            for other in others:
                try:
                    return (await self._keys.chunk_texts(self._store, [other]))[0]
                except Undecryptable:
                    log.warning("chunk %d cannot be decrypted either", other.id)
            raise

    async def _without_known(self, origin: _Origin, chunks: Sequence[StoredChunk]) -> Sequence[StoredChunk]:
        """Give chunks what is known of their text already, a vector or a refusal; those that are left."""
        # Of a part of the store, a text may be known from the rest of it.
        partial = origin.job is not None and origin.job.is_partial
        sharing = [chunk for chunk in chunks if partial or chunk.has_later or chunk.first_id != chunk.id]
        if not sharing:
            return chunks
        space_id = origin.space.id
        async with self._store.connection() as conn:
            sources = await missing.sources(conn, space_id, sharing, origin.fresh_id)
            firsts = {chunk.first_id for chunk in sharing if chunk.id not in sources and chunk.first_id != chunk.id}
            # Those are to be tried again, and what is filled afresh has what it had before.
            known = firsts and not origin.refused and origin.fresh_id is None
            reasons = await quarantine.reasons(conn, space_id, list(firsts)) if known else {}
        refused = {
            chunk.id: reasons[chunk.first_id]
            for chunk in sharing
            if chunk.id not in sources and chunk.first_id in reasons
        }
        copied: set[int] = set()
        if sources or refused:
            firsts = {chunk.id for chunk in sharing if chunk.first_id == chunk.id}
            copied = await self._settle_known(origin, sources, refused, firsts)
        settled = {*sources, *refused, *copied}
        return [chunk for chunk in chunks if chunk.id not in settled]

    async def _settle_known(
        self, origin: _Origin, sources: dict[int, int], refused: dict[int, str], firsts: set[int]
    ) -> set[int]:
        """Copy vectors and refusals; all that got a vector. Those of `firsts` give theirs to whoever was left out."""
        space_id, job = origin.space.id, origin.job
        if refused:
            async with self._store.transaction() as conn:
                too_large = [chunk_id for chunk_id, reason in refused.items() if reason == TOO_LARGE]
                reach = job.reach if job else EVERYWHERE
                quarantined = await quarantine.put(conn, space_id, refused, too_large, reach)
                if job is not None:
                    quarantined = await skipped.note(conn, job, refused)
                await missing.settle_pending(conn, space_id, refused)
                await self._account(conn, origin, 0, quarantined)
        copied: list[int] = []
        left = list(sources.items())
        while left:
            part, left = dict(left[: self._size.rows]), left[self._size.rows :]
            with self._size.measured(len(part)):
                async with self._store.transaction() as conn:
                    there = await vectors.copy_from(conn, space_id, part, origin.fresh_id)
                    await self._settle_copied(conn, origin, there)
            copied += there
        giving = [chunk_id for chunk_id in copied if chunk_id in firsts]
        last_id: int | None = 0 if giving else None
        while last_id is not None:
            within = (last_id, self._size.rows)
            with self._size.measured(self._size.rows):
                async with self._store.transaction() as conn:
                    given = await vectors.give_to_equals(
                        conn,
                        space_id,
                        giving,
                        job.reach if job else EVERYWHERE,
                        within,
                        replace=False,
                        job_id=origin.fresh_id,
                    )
                    await self._settle_copied(conn, origin, given.chunks)
            copied += given.chunks
            last_id = given.last_id
        return set(copied)

    async def _settle_copied(self, conn: Conn, origin: _Origin, chunk_ids: Collection[int]) -> None:
        if origin.fresh_id is None:
            await quarantine.take_out(conn, origin.space.id, chunk_ids)
            await missing.settle_pending(conn, origin.space.id, chunk_ids)
        await self._account(conn, origin, len(chunk_ids), 0)
        self._store.metrics.fill_copied.inc(len(chunk_ids))

    async def _account(self, conn: Conn, origin: _Origin, copied: int, quarantined: int) -> None:
        """End a transaction: the range must still be ours."""
        if origin.claimed is not None:
            await leases.fence(conn, [origin.claimed.lease])
        if origin.job is not None:
            await jobs.advance(conn, origin.job.id, copied, copied, quarantined)
        if origin.fresh_id is None:
            await registry.count(conn, {origin.space.id: copied})
