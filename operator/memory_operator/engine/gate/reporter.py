"""The status of a Provider: built from what was found and what is stored, published once per change."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from memory_operator.contract.resource import ProviderObject, ProviderRef
from memory_operator.contract.status import (
    Condition,
    ConditionType,
    EmbeddingStatus,
    Phase,
    ProviderStatus,
    Reason,
    set_condition,
)
from memory_operator.contract.warnings import warnings_for
from memory_operator.engine.gate.findings import Findings, Verdict
from memory_operator.engine.ports.sources import ProviderEvent, ProviderSource
from memory_operator.logs import get_logger
from memory_operator.plan.coverage import coverage, shown
from memory_operator.store.db.pool import Store
from memory_operator.store.jobs import jobs
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.spaces import providers, registry, spaces
from memory_operator.store.spaces.registry import Registry
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)


_REASONS = {"CredentialRefused": Reason.CREDENTIAL_REFUSED, "RateLimited": Reason.RATE_LIMITED}
"""What Reachable says of a trouble that the worker met, by its class; all others are EmbedderUnreachable."""

_CALM = (Reason.FILLING, Reason.NOT_ACTIVE, Reason.NO_SPACE)
"""Reasons for a False that nobody needs to act on."""


@dataclass(frozen=True, slots=True)
class StoredState:
    """What the store says of a Provider's spaces at one moment."""

    applied: Space | None
    beside: Space | None
    registry: Registry
    counted: dict[int, int]
    quarantined: dict[int, int]
    jobs: dict[int, Job]
    troubles: dict[int, tuple[str, str]]
    held: providers.PendingChange | None

    def covered(self, space: Space) -> float:
        """Coverage of a space."""
        return coverage(
            self.counted.get(space.id, 0),
            self.counted.get(registry.CHUNKS, 0),
            self.quarantined.get(space.id, 0),
        )


class Reporter:
    """Publishes statuses for one operator process, and remembers what it published."""

    def __init__(self, store: Store, source: ProviderSource, *, in_pod: bool = False) -> None:
        self._store = store
        self._source = source
        self._in_pod = in_pod
        self._last: dict[ProviderRef, ProviderStatus] = {}
        self._findings: dict[ProviderRef, tuple[ProviderObject, Findings]] = {}
        self._logged: dict[ProviderRef, int] = {}
        self._turns: defaultdict[ProviderRef, asyncio.Lock] = defaultdict(asyncio.Lock)

    def held_message(self) -> str | None:
        """The text of the oldest change held, as this process last saw it; None when nothing is."""
        for _, findings in self._findings.values():
            if findings.held_message:
                return findings.held_message
        return None

    def known(self) -> list[ProviderRef]:
        """Providers that were published since this process started."""
        return list(self._findings)

    def forget(self, ref: ProviderRef) -> None:
        """Drop what is remembered of a Provider that is gone."""
        for memory in (self._last, self._findings, self._logged, self._turns):
            memory.pop(ref, None)

    async def not_served(self, provider: ProviderObject) -> None:
        """Tell the owner of a Provider in a namespace that is not served; it is never called."""
        if provider.spec is None or provider.spec.role != "embedding":
            return
        findings = Findings(phase=Phase.ERROR)
        text = f"namespace {provider.ref.namespace} is not among the operator's providers.namespaces"
        findings.say(ConditionType.READY, False, Reason.NAMESPACE_NOT_SERVED, text)
        before = self._last.get(provider.ref)
        await self._send(provider, findings, before, compose(provider, findings, None, _conditions(before)))

    async def publish(self, provider: ProviderObject, findings: Findings) -> None:
        """Build the status, publish it where it differs, send Events and log a held change on transitions."""
        self._findings[provider.ref] = (provider, findings)
        held = sum(known.held_message is not None for _, known in self._findings.values())
        self._store.metrics.held_changes.set(held)
        if findings.held_message is None:
            self._logged.pop(provider.ref, None)
        elif self._logged.get(provider.ref) != findings.desired_dimensions:
            self._logged[provider.ref] = findings.desired_dimensions or 0
            log.error("%s", findings.held_message, extra={"provider": str(provider.ref)})
        await self.refresh(provider.ref)

    async def refresh(self, ref: ProviderRef) -> None:
        """Publish what is known of a Provider with new counts, without looking at anything outside."""
        async with self._turns[ref]:  # a refresh that began earlier must not publish older findings later
            known = self._findings.get(ref)
            if known:
                await self._publish(*known)

    async def _publish(self, provider: ProviderObject, findings: Findings) -> None:
        async with self._store.connection() as conn:
            stored = await read_stored(conn, provider.ref)
            row = await providers.get(conn, provider.ref)
        before = self._last.get(provider.ref)
        if before is None and row is not None and row.status is not None and row.uid == provider.uid:
            before = ProviderStatus.model_validate(row.status)
        status = compose(provider, findings, stored, _conditions(before))
        await self._send(provider, findings, before, status)
        if status != before:
            async with self._store.connection() as conn:
                await providers.save_status(conn, provider.ref, status.model_dump(mode="json"))

    async def _send(
        self, provider: ProviderObject, findings: Findings, before: ProviderStatus | None, status: ProviderStatus
    ) -> None:
        events = transitions(_conditions(before), status.conditions)
        if self._in_pod and (before is None or before.observed_generation != provider.generation):
            events += repeated_warnings(provider)
        await self._source.publish(provider.ref, provider.uid, status, events)
        self._last[provider.ref] = status


async def read_stored(conn: Any, ref: ProviderRef) -> StoredState:
    """What the store says of a Provider's spaces."""
    row = await providers.get(conn, ref)
    applied = await spaces.get(conn, row.applied_space_id) if row and row.applied_space_id else None
    beside = await spaces.get(conn, row.beside_space_id) if row and row.beside_space_id else None
    held = [change for change in await providers.pending_changes(conn) if change.ref == ref]
    return StoredState(
        applied,
        beside,
        await registry.read(conn),
        await registry.counted(conn),
        await spaces.quarantined(conn),
        await jobs.latest(conn),
        await jobs.troubles(conn),
        held[0] if held else None,
    )


def transitions(before: list[Condition], now: list[Condition]) -> list[ProviderEvent]:
    """One Event for each condition whose status or reason changed; Ready speaks only where no other one does."""
    known = {condition.type: condition for condition in before}
    changed = [
        condition
        for condition in now
        if known.get(condition.type) is None
        or (known[condition.type].status, known[condition.type].reason) != (condition.status, condition.reason)
    ]
    told = {condition.reason for condition in changed if condition.type != ConditionType.READY}
    return [
        ProviderEvent(_kind(c), str(c.reason), c.message or str(c.reason))
        for c in changed
        if (c.type != ConditionType.READY or c.reason not in told) and c.status != "Unknown"
    ]


def repeated_warnings(provider: ProviderObject) -> list[ProviderEvent]:
    """What the webhook warns of in a new Provider, as Events: in a cluster the webhook may be absent."""
    if provider.spec is None:
        return []
    manifest = {
        "metadata": {"namespace": provider.ref.namespace, "name": provider.ref.name},
        "spec": provider.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    return [ProviderEvent("Warning", "SpecWarning", text) for text in warnings_for(None, manifest)]


def _kind(condition: Condition) -> Literal["Normal", "Warning"]:
    return "Normal" if condition.status == "True" or condition.reason in _CALM else "Warning"


def compose(
    provider: ProviderObject, findings: Findings, stored: StoredState | None, before: list[Condition]
) -> ProviderStatus:
    """The status that follows from the findings and the store."""
    verdicts = dict(findings.verdicts)
    if stored is not None:
        _judge_spaces(verdicts, stored)
    phase = _phase(findings, verdicts, stored)
    if ConditionType.READY not in verdicts:
        verdicts[ConditionType.READY] = _ready(verdicts, phase)
    now, conditions = datetime.now(UTC), before
    for kind, verdict in verdicts.items():
        condition = Condition(
            type=kind,
            status="True" if verdict.ok else "False",
            reason=verdict.reason,
            message=verdict.message,
            last_transition_time=now,
            observed_generation=provider.generation,
        )
        conditions, _ = set_condition(conditions, condition, now)
    return ProviderStatus(
        phase=phase,
        observed_generation=provider.generation,
        conditions=conditions,
        embedding=None if stored is None else _embedding(provider, findings, stored),
    )


def _conditions(status: ProviderStatus | None) -> list[Condition]:
    return list(status.conditions) if status else []


def _judge_spaces(verdicts: dict[ConditionType, Verdict], stored: StoredState) -> None:
    """Populated and Active follow from the store alone; Reachable also from what the worker last met."""
    target = stored.beside or stored.applied
    for space in (stored.applied, stored.beside):
        if space and space.id in stored.troubles:
            code, text = stored.troubles[space.id]
            reason = _REASONS.get(code, Reason.EMBEDDER_UNREACHABLE)
            verdicts[ConditionType.REACHABLE] = Verdict(False, reason, text)
    if target is None:
        verdicts[ConditionType.POPULATED] = Verdict(False, Reason.NO_SPACE, "no space yet")
        verdicts[ConditionType.ACTIVE] = Verdict(False, Reason.NO_SPACE, "no space yet")
        return
    verdicts[ConditionType.POPULATED] = _populated(target, stored)
    verdicts[ConditionType.ACTIVE] = _active(stored)


def _populated(target: Space, stored: StoredState) -> Verdict:
    share = f"{stored.counted.get(target.id, 0)} of {stored.counted.get(registry.CHUNKS, 0)} chunks have a vector"
    if target.state == "ready":
        return Verdict(True, Reason.FILLED, share)
    job = stored.jobs.get(target.id)
    if job is None or job.state in ("running", "done"):
        return Verdict(False, Reason.FILLING, share)
    if job.state == "cancelled":
        hint = f"job {job.id} was cancelled; `memory embeddings reembed` fills what is missing"
        return Verdict(False, Reason.FILL_CANCELLED, f"{share}; {hint}")
    if job.paused_for == "budget":
        return Verdict(False, Reason.BUDGET_REACHED, f"{share}; {job.message or ''}".rstrip("; "))
    hint = f"job {job.id} is paused; `memory embeddings resume {job.id}` goes on"
    return Verdict(False, Reason.FILL_PAUSED, f"{share}; {hint}")


def _active(stored: StoredState) -> Verdict:
    active_id = stored.registry.active_space_id
    if stored.applied and stored.applied.id == active_id:
        return Verdict(True, Reason.ACTIVE, f"queries read {stored.applied.embedding_version}")
    if active_id is None:
        return Verdict(
            False, Reason.NOT_ACTIVE, f"no space is active ({stored.registry.inactive_reason}); activate one"
        )
    return Verdict(False, Reason.NOT_ACTIVE, "another space is active; `memory embeddings activate` changes that")


def _phase(findings: Findings, verdicts: dict[ConditionType, Verdict], stored: StoredState | None) -> Phase:
    if findings.phase is not None:
        return findings.phase
    reachable = verdicts.get(ConditionType.REACHABLE)
    if reachable and not reachable.ok:
        return Phase.ERROR if reachable.reason == Reason.CREDENTIAL_REFUSED else Phase.UNAVAILABLE
    if stored is None or stored.applied is None:
        return Phase.PENDING
    populated = verdicts[ConditionType.POPULATED]
    return Phase.READY if populated.ok else Phase.REEMBEDDING


def _ready(verdicts: dict[ConditionType, Verdict], phase: Phase) -> Verdict:
    """Ready repeats the first condition that stands in its way."""
    order = (
        ConditionType.CREDENTIAL_RESOLVED,
        ConditionType.REACHABLE,
        ConditionType.DIMENSION_SETTLED,
        ConditionType.POPULATED,
    )
    for kind in order:
        verdict = verdicts.get(kind)
        if verdict and not verdict.ok:
            return verdict
    return Verdict(phase == Phase.READY, Reason.READY if phase == Phase.READY else Reason.PENDING, "")


def _embedding(provider: ProviderObject, findings: Findings, stored: StoredState) -> EmbeddingStatus:
    applied, target = stored.applied, stored.beside or stored.applied
    held = stored.held
    return EmbeddingStatus(
        embedding_version=applied.embedding_version if applied else None,
        applied_dimensions=applied.dimensions if applied else None,
        desired_dimensions=findings.desired_dimensions,
        vectors=stored.counted.get(target.id, 0) if target else 0,
        chunks=stored.counted.get(registry.CHUNKS, 0),
        coverage=shown(stored.covered(target)) if target else 0.0,
        quarantined=stored.quarantined.get(target.id, 0) if target else 0,
        active=applied is not None and applied.id == stored.registry.active_space_id,
        eta_seconds=_eta(stored.jobs.get(target.id)) if target else None,
        estimated_tokens=held.effect.estimated_tokens if held else None,
        estimated_cost=str(held.effect.estimated_cost) if held and held.effect.estimated_cost is not None else None,
        currency=held.effect.currency if held else None,
        observed_generation=provider.generation,
    )


def _eta(job: Job | None) -> int | None:
    """Seconds until a running job is done at the rate it had so far."""
    if job is None or job.state != "running" or job.first_call_at is None or job.done == 0:
        return None
    passed = (datetime.now(UTC) - job.first_call_at).total_seconds()
    return max(0, round((job.total - job.done) * passed / job.done))
