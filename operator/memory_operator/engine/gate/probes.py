"""What the embedders of Providers answer: asked in tasks of their own, so that no reconcile waits for a vendor.

A reconcile asks what is known. Where nothing is, the embedder is asked meanwhile and the Provider is enqueued again
once it has answered. An answer is believed for a while. After a failure the embedder is asked again after 5 s, then
after longer and longer, up to 5 min; after one that another try does not mend, after 5 min. An edit of the Provider,
another credential or a consent makes it asked at once; who has a consent waits behind nobody else.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from memory_operator.backoff import backoff, jittered
from memory_operator.contract.resource import ProviderRef
from memory_operator.embedders import calls_a_vendor
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.metered import probe_dimensions
from memory_operator.errors import BadReply, MemoryOperatorError, ModelGone, Permanent, RateLimited
from memory_operator.logs import get_logger
from memory_operator.plan.space import CallConfig
from memory_operator.store.db.pool import Store
from memory_operator.store.spaces import model_checks, spaces
from memory_operator.store.spaces.spaces import Owner

log = get_logger(__name__)

AT_ONCE = 8
"""Embedders asked at a time, and as many more of Providers that have a consent."""

FIRST_PAUSE_SECONDS = 5.0
LAST_PAUSE_SECONDS = 300.0
_SECRET_PAUSE_SECONDS = 60.0
"""The longest pause before a Secret is read again that may hold another key by now."""
_BELIEVED_SECONDS = 300.0
_BELIEVED_CONSENTED_SECONDS = 10.0
"""How old an answer may be when vectors are discarded on it; it is always younger than the consent."""

_CREDENTIALS = b"memory-operator"


class Unprobed(Exception):
    """The embedder is being asked; the Provider is enqueued again once it has answered."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What an answer is the answer to."""

    owner: Owner
    endpoint: CallConfig
    credential: str
    """A digest."""
    marker_id: int | None
    """The consent that the answer is needed for."""

    def answered_by(self, other: _Question, *, failed: bool) -> bool:
        """Whether the answer to another question is one to this: a success outlives edits of other fields."""
        if (other.endpoint, other.credential, other.owner.uid) != (self.endpoint, self.credential, self.owner.uid):
            return False
        if self.marker_id is not None and self.marker_id != other.marker_id:
            return False
        return not failed or other.owner.generation == self.owner.generation


@dataclass(slots=True)
class _Record:
    """What is known of one Provider's embedder."""

    question: _Question
    under_way: bool = True
    actual: int | None = None
    error: MemoryOperatorError | None = None
    failures: int = 0
    answered_at: float = 0.0
    again_at: float = 0.0


class Probes:
    """The answers of embedders, for one operator process."""

    def __init__(
        self,
        store: Store,
        connector: Connector,
        enqueue: Callable[[ProviderRef], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._connector = connector
        self._enqueue = enqueue
        self._clock = clock
        self._records: dict[ProviderRef, _Record] = {}
        self._unreadable: dict[ProviderRef, int] = {}
        self._ordinary: asyncio.Queue[tuple[ProviderRef, _Record]] = asyncio.Queue()
        self._consented: asyncio.Queue[tuple[ProviderRef, _Record]] = asyncio.Queue()

    def forget(self, ref: ProviderRef) -> None:
        """Drop what is known of a Provider that is gone."""
        self._records.pop(ref, None)
        self._unreadable.pop(ref, None)

    def retry_after(self, ref: ProviderRef) -> float | None:
        """Seconds after which a reconcile is of use again that failed for its embedder; None when one will be made."""
        record = self._records.get(ref)
        if ref in self._unreadable:
            return backoff(self._unreadable[ref], FIRST_PAUSE_SECONDS, _SECRET_PAUSE_SECONDS)
        if record is None or record.under_way:
            return None
        if record.error is None:  # the length of its vectors is what was wrong
            return backoff(1, LAST_PAUSE_SECONDS, LAST_PAUSE_SECONDS)
        pause = max(0.0, record.again_at - self._clock())
        if isinstance(record.error, Permanent):
            pause = min(pause, backoff(record.failures, FIRST_PAUSE_SECONDS, _SECRET_PAUSE_SECONDS))
        return pause

    async def dimensions(
        self, owner: Owner, call: CallConfig, expected: int | None, marker_id: int | None = None
    ) -> int:
        """Length of the vectors of a Provider's embedder; with a marker, as asked after that consent was seen.

        Raises what the embedder raised; BadReply (with `actual_dimensions`) where the length is not the expected one;
        Unprobed where it is being asked. What reading its credential raises is raised even while it is believed.
        """
        record = self._records.get(owner.ref)
        if record is not None and record.error is not None:
            self._connector.forget(call, record.error)  # a key that was refused is read anew at each look
        try:
            credential = await self._connector.credential(call)
            await self._connector.embedder(call)
        except MemoryOperatorError:
            self._unreadable[owner.ref] = self._unreadable.get(owner.ref, 0) + 1
            raise
        self._unreadable.pop(owner.ref, None)
        question = _Question(owner, _endpoint(call), _digest(credential), marker_id)
        if not calls_a_vendor(call):
            return self._checked(call, await probe_dimensions(self._store, self._connector, owner.ref, call), expected)
        if record is None or not question.answered_by(record.question, failed=record.error is not None):
            self._start(owner.ref, _Record(question))
            raise Unprobed
        return self._answer(owner.ref, record, question, call, expected)

    def _answer(
        self, ref: ProviderRef, record: _Record, question: _Question, call: CallConfig, expected: int | None
    ) -> int:
        now = self._clock()
        if record.error is not None:
            if now >= record.again_at and not record.under_way:
                record.under_way = True
                self._start(ref, record)
            raise record.error.with_traceback(None)
        if record.actual is None:
            raise Unprobed
        believed = _BELIEVED_SECONDS if question.marker_id is None else _BELIEVED_CONSENTED_SECONDS
        wrong = expected is not None and record.actual != expected
        if now - record.answered_at > (LAST_PAUSE_SECONDS if wrong else believed) and not record.under_way:
            self._start(ref, _Record(question))
            raise Unprobed
        return self._checked(call, record.actual, expected)

    def _checked(self, call: CallConfig, actual: int, expected: int | None) -> int:
        if expected is not None and actual != expected:
            raise BadReply(
                f"the model {call.model or call.type} returns vectors of {actual} dimensions, not {expected}",
                hint=f"set spec.embedding.dimensions to {actual}, or choose a model of {expected}",
                actual_dimensions=actual,
            )
        return actual

    def _start(self, ref: ProviderRef, record: _Record) -> None:
        self._records[ref] = record
        lane = self._ordinary if record.question.marker_id is None else self._consented
        lane.put_nowait((ref, record))

    async def work(self, *, consented: bool) -> None:
        """Ask embedders as they come, until cancelled. Several of these share one lane."""
        lane = self._consented if consented else self._ordinary
        while True:
            ref, record = await lane.get()
            if self._records.get(ref) is record:  # else something else is asked by now, or the Provider is gone
                await self._ask_now(ref, record)
            self._enqueue(ref)

    async def _ask_now(self, ref: ProviderRef, record: _Record) -> None:
        call = record.question.endpoint
        try:
            record.actual, record.error = await probe_dimensions(self._store, self._connector, ref, call), None
            record.failures = 0
        except Exception as error:
            known = error if isinstance(error, MemoryOperatorError) else None
            if known is None:
                log.exception("the embedder of %s could not be asked", ref, extra={"provider": str(ref)})
            self._connector.forget(call, error)
            record.error = known or MemoryOperatorError("the embedder could not be asked; the operator's log says why")
            record.failures += 1
        await self._note(ref, call, record.error)
        record.under_way = False
        record.answered_at = self._clock()
        record.again_at = record.answered_at + _pause(record)

    async def _note(self, ref: ProviderRef, call: CallConfig, error: MemoryOperatorError | None) -> None:
        """Keep whether the vendor has the model of this Provider's spaces that are made by it. Never raises."""
        if error is not None and not isinstance(error, ModelGone):
            return
        try:
            async with self._store.connection() as conn:
                for space in await spaces.of_provider(conn, ref, []):
                    if space.gets_vectors and space.config.same_endpoint(call):
                        note = model_checks.note_there if error is None else model_checks.note_gone
                        await note(conn, space.id)
        except MemoryOperatorError as unavailable:
            log.info("whether a model is there is not written down: %s", unavailable)


def _pause(record: _Record) -> float:
    if isinstance(record.error, Permanent):
        return jittered(LAST_PAUSE_SECONDS * 1.25)
    pause = backoff(record.failures, FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS)
    asked_to_wait = record.error.retry_after if isinstance(record.error, RateLimited) else None
    return max(pause, min(asked_to_wait or 0.0, LAST_PAUSE_SECONDS))


def _endpoint(call: CallConfig) -> CallConfig:
    """The part of a configuration that a call depends on."""
    return CallConfig.model_validate(call.model_dump(include=set(CallConfig.model_fields)))


def _digest(credential: str | None) -> str:
    """Tells credentials apart without keeping one."""
    return hashlib.blake2b((credential or "").encode(), key=_CREDENTIALS).hexdigest()
