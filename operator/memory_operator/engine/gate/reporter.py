"""The status of a Provider: composed from what was found and what is stored, published where it changed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, replace

from memory_operator.contract.resource import ProviderObject, ProviderRef
from memory_operator.contract.status import ConditionType, Phase, ProviderStatus, Reason
from memory_operator.engine.gate.conditions import compose, differs, repeated_warnings, transitions
from memory_operator.engine.gate.findings import Findings, Verdict
from memory_operator.engine.gate.snapshot import StoredState, read_state, read_states
from memory_operator.engine.ports.sources import ProviderSource
from memory_operator.logs import get_logger
from memory_operator.store.db.pool import Store
from memory_operator.store.spaces import providers

log = get_logger(__name__)

_FILLING_SECONDS = 10.0
"""How often figures that change are published while a space is filled."""
_FIGURES_SECONDS = 60.0
"""How often they are otherwise."""


@dataclass(frozen=True, slots=True)
class _Published:
    status: ProviderStatus
    at: float
    again_at: float | None = None
    """When to try again, where the status of another installation was left standing."""

    def seconds_left(self, status: ProviderStatus, now: float) -> float:
        """For how long another installation's status is left standing; what is said of an edit does not wait so."""
        if self.again_at is None or self.status.observed_generation != status.observed_generation:
            return 0.0
        return max(0.0, self.again_at - now)


class Reporter:
    """Publishes statuses for one operator process, and remembers what it published."""

    def __init__(self, store: Store, source: ProviderSource, *, in_pod: bool = False) -> None:
        self._store = store
        self._source = source
        self._in_pod = in_pod
        self._published: dict[ProviderRef, _Published] = {}
        self._findings: dict[ProviderRef, tuple[ProviderObject, Findings]] = {}
        self._logged: dict[ProviderRef, int | None] = {}
        self._turns: defaultdict[ProviderRef, asyncio.Lock] = defaultdict(asyncio.Lock)

    def held_message(self) -> str | None:
        """The text of the oldest change held, as this process last saw it; None when nothing is."""
        for _, findings in self._findings.values():
            if findings.held_message:
                return findings.held_message
        return None

    def forget(self, ref: ProviderRef) -> None:
        """Drop what is remembered of a Provider that is gone."""
        for memory in (self._published, self._findings, self._logged, self._turns):
            memory.pop(ref, None)
        for gauge in (self._store.metrics.model_retired, self._store.metrics.model_drifted):
            gauge.remove_by_labels({"provider": str(ref)})

    async def not_served(self, provider: ProviderObject) -> float | None:
        """Tell the owner of a Provider in a namespace that is not served; it is never called.

        After how many seconds to try again, where another installation may serve it.
        """
        if provider.spec is None or provider.spec.role != "embedding":
            return None
        text = f"namespace {provider.ref.namespace} is not among the operator's providers.namespaces"
        verdict = Verdict(False, Reason.NAMESPACE_NOT_SERVED, text)
        findings = Findings({ConditionType.READY: verdict}, Phase.ERROR)
        known = self._published.get(provider.ref)
        before = known.status if known else None
        again = await self._send(provider, before, compose(provider, findings, None, before))
        if again is not None:
            del self._published[provider.ref]  # nothing was said
        return again

    async def publish(self, provider: ProviderObject, findings: Findings, stored: StoredState | None) -> None:
        """Compose the status, publish it where it differs, send Events and log a held change on transitions.

        `stored` is what the findings are based on, where that is still so; None reads it.
        """
        ref = provider.ref
        self._findings[ref] = (provider, findings)
        held = sum(known.held_message is not None for _, known in self._findings.values())
        self._store.metrics.held_changes.set(held)
        if findings.held_message is None:
            self._logged.pop(ref, None)
        elif self._logged.get(ref) != findings.desired_dimensions:
            self._logged[ref] = findings.desired_dimensions
            log.error("%s", findings.held_message, extra={"provider": str(ref)})
        async with self._turns[ref]:
            if stored is None:
                async with self._store.connection() as conn:
                    stored = await read_state(conn, ref)
            await self._publish(provider, findings, stored, with_figures=True)

    async def refresh(self) -> None:
        """Publish what is known of all Providers with new counts: one read of the store, nothing of anything outside.

        Figures that change with each write are published now and then, everything else at once.
        """
        async with self._store.connection() as conn:
            states = await read_states(conn)
        for ref, looked_at in list(self._findings.items()):
            async with self._turns[ref]:
                if self._findings.get(ref) is looked_at and ref in states:  # else a reconcile has published newer ones
                    provider, findings = looked_at
                    await self._publish(provider, findings, states[ref], with_figures=self._figures_are_due(ref))
            await asyncio.sleep(0)

    def _figures_are_due(self, ref: ProviderRef) -> bool:
        known = self._published.get(ref)
        if known is None:
            return True
        pause = _FILLING_SECONDS if known.status.phase == Phase.REEMBEDDING else _FIGURES_SECONDS
        return _now() - known.at >= pause

    async def _publish(
        self, provider: ProviderObject, findings: Findings, stored: StoredState, *, with_figures: bool
    ) -> None:
        known = self._published.get(provider.ref)
        before, row = known.status if known else None, stored.row
        if before is None and row is not None and row.status is not None and row.uid == provider.uid:
            before = ProviderStatus.model_validate(row.status)
        status = compose(provider, findings, stored, before)
        is_due = known is None or (known.again_at is not None and known.again_at <= _now())
        if not is_due and not differs(before, status, with_figures=with_figures):
            return
        await self._send(provider, before, status)
        self._gauge(provider.ref, status)
        if status != before:
            async with self._store.connection() as conn:
                await providers.save_status(conn, provider.ref, status.model_dump(mode="json"))

    def _gauge(self, ref: ProviderRef, status: ProviderStatus) -> None:
        said = {condition.type: condition.status == "True" for condition in status.conditions}
        metrics = self._store.metrics
        metrics.model_retired.labels(str(ref)).set(said.get(ConditionType.MODEL_RETIRED, False))
        metrics.model_drifted.labels(str(ref)).set(said.get(ConditionType.MODEL_DRIFTED, False))

    async def _send(
        self, provider: ProviderObject, before: ProviderStatus | None, status: ProviderStatus
    ) -> float | None:
        """Publish a status with its Events; after how many seconds to try again, where another one is left standing."""
        events = transitions(before, status)
        if self._in_pod and (before is None or before.observed_generation != provider.generation):
            events += repeated_warnings(provider)
        known, now = self._published.get(provider.ref), _now()
        if known is not None and not events and (left := known.seconds_left(status, now)):
            self._published[provider.ref] = replace(known, status=status)
            return left
        again = await self._source.publish(provider.ref, provider.uid, status, events)
        self._published[provider.ref] = _Published(status, now, None if again is None else now + again)
        return again


def _now() -> float:
    return asyncio.get_running_loop().time()
