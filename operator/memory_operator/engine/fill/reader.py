"""The reader of a fill: claims ranges, copies what equal texts have already, decrypts the rest."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from memory_operator import metrics, traces
from memory_operator.engine.embedding.spans import space_span
from memory_operator.engine.fill.batch import ClaimedRange
from memory_operator.engine.fill.inflight import InFlight
from memory_operator.logs import get_logger
from memory_operator.memory.encryption import Undecryptable
from memory_operator.store.db.pool import Store
from memory_operator.store.jobs import jobs, leases, missing, quarantine
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.jobs.leases import Backend, LeaseLost
from memory_operator.store.jobs.missing import StoredChunk
from memory_operator.store.memories.tenants import KeyRing
from memory_operator.store.spaces import registry, vectors
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

PENDING_ROWS = 1_000
"""Pending chunks taken at a time."""
_COPIES_TRIED = 5
"""Chunks with the same text that are read in place of one that cannot be."""


class Reader:
    """Reads for one space, into one hand."""

    def __init__(self, store: Store, keys: KeyRing, hand: InFlight, name: str, presence: int) -> None:
        self._store = store
        self._keys = keys
        self._hand = hand
        self._name = name
        self._presence = presence

    async def read_pending(self, space: Space) -> bool:
        """Take pending chunks in; False when there are none that nobody works on."""
        async with self._store.connection() as conn:
            taken = await missing.take_pending(conn, space.id, self._presence, PENDING_ROWS)
        if not taken:
            return False
        with space_span("fill.read", space) as span:
            left = await self._without_known(space, None, None, taken)
            await self._take_in(left, None, None)
            span.note(chunks=len(taken), to_embed=len(left))
        return True

    async def read_range(self, space: Space, job: Job, backend: Backend) -> bool:
        """Claim a range and take its chunks in; False when there is none to claim."""
        with metrics.FILL_STAGE_SECONDS.labels("read").time(), ExitStack() as traced:
            async with self._store.connection() as conn:
                lease = await leases.claim(conn, job.id, self._name, self._presence, backend)
            if lease is None:
                return False
            held = self._hand.held.get(lease.id)
            if held is not None:
                held.lease = lease  # taken for ours again, after the server was away: what is paid stays so
                return True
            held = self._hand.hold(lease)
            held.waiting += 1  # not over before it is read
            span = traced.enter_context(space_span("fill.read", space, job))
            try:
                await self._read(space, job, held, span)
            except LeaseLost as lost:
                log.info("%s", lost)
                self._hand.lose(lost.lost)
                return True
            except BaseException:
                # Read by halves: nothing is written for it, and whoever claims it next reads it whole.
                self._hand.lose([lease.id])
                self._hand.to_release.append(lease)
                raise
        held.waiting -= 1
        if held.waiting == 0:
            self._hand.held.pop(lease.id, None)
            async with self._store.connection() as conn:
                if held.given_up:
                    await leases.release(conn, [lease])
                else:
                    await leases.finish(conn, [lease])
        return True

    async def _read(self, space: Space, job: Job, held: ClaimedRange, span: traces.Span) -> None:
        async with self._store.connection() as conn:
            found = await missing.in_range(conn, space.id, held.lease, project_id=job.project_id, have_too=job.replace)
        left = found if job.replace else await self._without_known(space, job, held, found)
        await self._take_in(left, held, job)
        span.note(chunks=len(found), to_embed=len(left))

    async def _take_in(self, chunks: Sequence[StoredChunk], held: ClaimedRange | None, job: Job | None) -> None:
        """Decrypt chunks; one that cannot be decrypted stops no other."""
        try:
            self._hand.take_in(chunks, await self._keys.chunk_texts(self._store, chunks), held, job)
        except Undecryptable:
            for chunk in chunks:
                try:
                    texts = [await self._text_of(chunk)]
                except Undecryptable as error:
                    self._hand.refuse(chunk, held, job, error.message)
                else:
                    self._hand.take_in([chunk], texts, held, job)

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

    async def _without_known(
        self, space: Space, job: Job | None, held: ClaimedRange | None, chunks: Sequence[StoredChunk]
    ) -> Sequence[StoredChunk]:
        """Give chunks what is known of their text already, a vector or a refusal; those that are left."""
        sharing = [chunk for chunk in chunks if chunk.has_later or chunk.first_id != chunk.id]
        if not sharing:
            return chunks
        async with self._store.connection() as conn:
            sources = await missing.sources(conn, space.id, sharing)
            firsts = {chunk.first_id for chunk in sharing if chunk.id not in sources and chunk.first_id != chunk.id}
            refused = await quarantine.reasons(conn, space.id, list(firsts)) if firsts else {}
        like_refused = {
            chunk.id: refused[chunk.first_id]
            for chunk in sharing
            if chunk.id not in sources and chunk.first_id in refused
        }
        given: set[int] = set()
        if sources or like_refused:
            firsts = {chunk.id for chunk in sharing if chunk.first_id == chunk.id}
            given = await self._settle_known(space, job, held, sources, like_refused, firsts)
        settled = {*sources, *like_refused, *given}
        return [chunk for chunk in chunks if chunk.id not in settled]

    async def _settle_known(
        self,
        space: Space,
        job: Job | None,
        held: ClaimedRange | None,
        sources: dict[int, int],
        refused: dict[int, str],
        firsts: set[int],
    ) -> set[int]:
        """Copy vectors and refusals; all that got a vector. Those of `firsts` give theirs to whoever was left out."""
        async with self._store.transaction() as conn:
            copied = await vectors.copy_from(conn, space.id, sources)
            if giving := [chunk_id for chunk_id in copied if chunk_id in firsts]:
                copied += await vectors.give_to_equals(conn, space.id, giving, job.project_id if job else None)
            quarantined = await quarantine.put(conn, space.id, refused) if refused else 0
            await missing.settle_pending(conn, space.id, [*copied, *refused])
            if held is not None:
                await leases.fence(conn, [held.lease])
            if job is not None:
                await jobs.advance(conn, job.id, len(copied), len(copied), quarantined)
            await registry.count(conn, {space.id: len(copied)})
        metrics.FILL_COPIED.inc(len(copied))
        return set(copied)
