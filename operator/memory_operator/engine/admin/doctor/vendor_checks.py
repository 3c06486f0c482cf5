"""Checks of the Providers: whether each could be applied, and what its vendor answers to one real call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from memory_operator.contract.status import Phase
from memory_operator.embedders import calls_a_vendor
from memory_operator.engine.admin.doctor.limits import within
from memory_operator.engine.admin.doctor.report import Finding, Scope
from memory_operator.engine.admin.doctor.store_checks import Stored
from memory_operator.engine.admin.spaces import Waiting, waiting_of
from memory_operator.engine.admin.switchable import SpaceView
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.metered import probe_dimensions
from memory_operator.errors import MemoryOperatorError
from memory_operator.store.db.pool import Store

CALL_SECONDS = 15.0
"""How long one Provider's credential and call may take."""

_CALLS_AT_ONCE = 64
_ALL_CALLS_SECONDS = 25.0


def declared(stored: Stored) -> Iterator[Finding]:
    """Providers that have no space, or whose present spec cannot be applied."""
    for row in stored.rows:
        waiting = waiting_of(row)
        describe = f"kubectl -n {row.ref.namespace} describe provider {row.ref.name}"
        if row.applied_space_id is None:
            yield Finding("provider", "fail", f"it has no space: {_reason(waiting)}", str(row.ref), describe)
        elif waiting.phase in (Phase.ERROR, Phase.UNAVAILABLE):
            message = f"what it says now is not applied: {_reason(waiting)}"
            yield Finding("provider", "fail", message, str(row.ref), describe)


def _reason(waiting: Waiting) -> str:
    return f"{waiting.reason}: {waiting.message}" if waiting.message else waiting.reason


@dataclass(frozen=True, slots=True)
class VendorCalls:
    """One call to the embedder of each space in use, side by side."""

    store: Store
    connector: Connector
    knows_proofs: bool
    """Whether a credential that changed hands is noticed: without the master key it is not."""

    async def all(self, stored: Stored, scope: Scope) -> list[Finding]:
        """What each answers, within a time that does not grow with the slowest."""
        used = {space_id for row in stored.rows for space_id in (row.applied_space_id, row.beside_space_id)}
        views = [view for view in stored.views if view.space.id in used]
        turns = asyncio.Semaphore(_CALLS_AT_ONCE)
        tasks = [asyncio.create_task(self._in_turn(view, scope, turns), name="doctor's call") for view in views]
        if not tasks:
            return []
        try:
            await asyncio.wait(tasks, timeout=_ALL_CALLS_SECONDS)
            return [_found(task, view) for task, view in zip(tasks, views, strict=True)]
        finally:
            for task in tasks:
                task.cancel()

    async def _in_turn(self, view: SpaceView, scope: Scope, turns: asyncio.Semaphore) -> Finding:
        async with turns:
            return await self._one(view, scope)

    async def _one(self, view: SpaceView, scope: Scope) -> Finding:
        space, subject = view.space, str(view.space.ref)
        if not scope.calls:
            return Finding("provider", "skipped", "its vendor was not called", subject)
        if calls_a_vendor(space.config) and not scope.pays(space.ref.namespace):
            message = f"calling its vendor needs the verb create on providers/jobs in namespace {space.ref.namespace}"
            return Finding("provider", "not_permitted", message, subject)
        if space.credential_moved and not self.knows_proofs:
            message = "it names another vendor by now: without the master key it is not known whose its credential is"
            return Finding("provider", "skipped", message, subject, "give --master-key-file")
        began = asyncio.get_running_loop().time()
        try:
            length = await within(CALL_SECONDS, self._probe(view), "doctor's probe")
        except MemoryOperatorError as error:
            message = f"the embedder of {space.embedding_version} gives no vector: {error.message}"
            remedy = error.hint or f"kubectl -n {space.ref.namespace} describe provider {space.ref.name}"
            return Finding("provider", "fail", message, subject, remedy)
        took = (asyncio.get_running_loop().time() - began) * 1000
        if length != space.dimensions:
            message = f"the embedder of {space.embedding_version} gives {length} dimensions, not {space.dimensions}"
            return Finding("provider", "fail", message, subject, "correct spec.model or spec.embedding.dimensions")
        message = f"the embedder of {space.embedding_version} answers {length} dimensions in {took:.0f} ms"
        return Finding("provider", "ok", message, subject)

    async def _probe(self, view: SpaceView) -> int:
        await self.connector.checked_proof(view.space)
        return await probe_dimensions(self.store, self.connector, view.space.ref, view.space.config)


def _found(task: asyncio.Task[Finding], view: SpaceView) -> Finding:
    if task.done():
        return task.result()
    return Finding("provider", "skipped", "it was not called in time: others did not answer", str(view.space.ref))


def nobody(found: Sequence[Finding]) -> list[Finding]:
    """What was found of Providers, or that there is none."""
    return list(found) or [Finding("provider", "skipped", "there is no Provider")]
