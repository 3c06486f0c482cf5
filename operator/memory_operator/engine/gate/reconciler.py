"""One reconcile of one Provider: compare desired with applied, act, and say what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from memory_operator.backoff import jittered
from memory_operator.contract.provider import ProviderSpec
from memory_operator.contract.resource import ProviderObject, ProviderRef
from memory_operator.contract.status import ConditionType, Phase, Reason
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.gate import held, reshape
from memory_operator.engine.gate.declared import declared_spec, is_ours
from memory_operator.engine.gate.findings import Findings, Verdict
from memory_operator.engine.gate.held import OPERATOR
from memory_operator.engine.gate.probes import Probes
from memory_operator.engine.gate.reporter import Reporter
from memory_operator.engine.gate.reshape import Change
from memory_operator.engine.gate.snapshot import StoredState, View, read_view
from memory_operator.engine.ports.activation import ActivationRequests
from memory_operator.engine.ports.sources import ProviderSource
from memory_operator.engine.spaces.activation import catch_up, coverage_is_comparable
from memory_operator.errors import BadReply, InvalidInput, LockBusy, MemoryOperatorError, NeedsConsent, ProviderChanged
from memory_operator.logs import get_logger
from memory_operator.memory.preprocess import PREPROCESSING_VERSION
from memory_operator.plan.consent import consent_message
from memory_operator.plan.cost import Effect, cost_of
from memory_operator.plan.decide import Beside, Create, Desired, Duplicate, Hold, Keep, Plan, Reshape, decide
from memory_operator.plan.desired import call_config, contradiction, declared_dimension, space_config
from memory_operator.plan.space import CallConfig, SpaceConfig, with_call_fields
from memory_operator.store.db import locks
from memory_operator.store.db.pool import Store
from memory_operator.store.jobs import jobs
from memory_operator.store.memories import text_sums
from memory_operator.store.spaces import claims, credentials, kept, providers, registry, spaces
from memory_operator.store.spaces.spaces import Owner, Space

log = get_logger(__name__)

_LOCK_WAIT_SECONDS = 5.0
_SOON_SECONDS = 0.2
_BUSY_SECONDS = 1.25
"""After how long a lock is tried again that another session holds, more or less."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One decision about one Provider, with all that it was made from."""

    provider: ProviderObject
    config: SpaceConfig
    view: View
    plan: Plan

    @property
    def owner(self) -> Owner:
        """The Provider, as it was decided on."""
        return Owner(self.provider.ref, self.provider.uid, self.provider.generation)

    @property
    def settled(self) -> Verdict:
        """What is said of the dimension where nothing waits."""
        return Verdict(True, Reason.SETTLED, f"dimension {self.config.dimensions}")

    def change(self, existing_id: int | None = None) -> Change:
        """The decision, as it is carried out."""
        return Change(self.owner, self.config, existing_id, OPERATOR)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What was found, and what is stored where nothing was changed since it was read."""

    findings: Findings
    stored: StoredState | None = None


class Reconciler:
    """Reconciles Providers from one source. Safe to run in several processes at once."""

    def __init__(
        self,
        store: Store,
        source: ProviderSource,
        connector: Connector,
        report: Reporter,
        probes: Probes,
        requests: ActivationRequests | None = None,
    ) -> None:
        self._store = store
        self._source = source
        self._connector = connector
        self._report = report
        self._probes = probes
        self._requests = requests
        self.duplicates: set[ProviderRef] = set()
        """Providers that were refused a space for another one, when they were last looked at."""

    async def observe(self, provider: ProviderObject) -> bool:
        """Store what a Provider says; False when something newer is known, or it is not one of ours."""
        if not is_ours(self._source, provider):
            return False
        async with self._store.transaction() as conn:
            observed = await providers.observe(
                conn, provider.ref, provider.uid, provider.generation, provider.created_at, declared_spec(provider)
            )
            await kept.follow(conn, provider.ref)
            return observed

    async def reconcile(self, ref: ProviderRef) -> float | None:
        """Bring one Provider to what it says; after how many seconds to look again, or None.

        Raises Unprobed where its embedder is being asked first.
        """
        try:
            async with locks.provider_lock(self._store, ref, _LOCK_WAIT_SECONDS):
                # Looked at under the lock: what was there before it was waited for may be gone by now.
                provider = await self._source.get(ref)
                self.duplicates.discard(ref)
                if provider is None:
                    return None  # absence counts only in a full listing
                if not self._source.serves(ref.namespace):
                    return await self._report.not_served(provider)
                if not await self.observe(provider):
                    return None
                with self._store.metrics.reconcile_seconds.time():
                    outcome = await self._settle(provider)
                self._store.metrics.reconciles.labels(str(outcome.findings.phase or "Settled")).inc()
                await self._report.publish(provider, outcome.findings, outcome.stored)
                if self._requests is not None:
                    await self._requests.follow(provider)
                return outcome.findings.retry_after
        except ProviderChanged:
            return _SOON_SECONDS
        except LockBusy as busy:
            log.info("%s: %s; looked at again soon", ref, busy, extra={"provider": str(ref)})
            return jittered(_BUSY_SECONDS, 0.6)

    async def _settle(self, provider: ProviderObject) -> _Outcome:
        spec = provider.spec
        if spec is None:
            verdict = Verdict(False, Reason.INVALID_SPEC, "; ".join(provider.problems))
            return _Outcome(Findings({ConditionType.READY: verdict}, Phase.ERROR))
        findings = Findings()
        try:
            call = call_config(provider.ref.namespace, spec)
            dimension = declared_dimension(spec)
            if dimension is None:
                dimension = await self._probes.dimensions(_owner(provider), call, None)
            findings = replace(findings, desired_dimensions=dimension)
            step = await self._decide(provider, spec, call, dimension)
            outcome = await self._carry_out(step)
            return replace(outcome, findings=findings.and_then(outcome.findings))
        except ProviderChanged:
            raise
        except MemoryOperatorError as error:
            return _Outcome(findings.and_then(self._failed(provider.ref, error)))

    def _failed(self, ref: ProviderRef, error: MemoryOperatorError) -> Findings:
        """The findings that an error amounts to, and when to look again."""
        if isinstance(error, LockBusy):
            return Findings().failing(error, jittered(_BUSY_SECONDS, 0.6))
        log.warning("%s: %s", ref, error, extra={"provider": str(ref)})
        return Findings().failing(error, self._probes.retry_after(ref))

    async def _decide(self, provider: ProviderObject, spec: ProviderSpec, call: CallConfig, dimension: int) -> _Step:
        """Compare what a Provider says with what is stored; a change that is no longer asked for is held no more."""
        try:
            config = space_config(call, spec, dimension, PREPROCESSING_VERSION)
        except InvalidInput:
            await self._release(provider)
            raise
        change_kind = spec.embedding.dimension_change if spec.embedding else None
        desired = Desired(config, "Shadow" if change_kind == "Shadow" else "InPlace")
        view = await self._view(provider, config)
        await self._note_vendor(view, config)
        plan = decide(desired, view.applied_now, view.beside_now, view.existing, view.consent)
        change = view.stored.pending
        still_wanted = change is not None and (change.uid, change.effect.to_dim) == (provider.uid, dimension)
        stands = isinstance(plan, Hold | Reshape) or (still_wanted and isinstance(plan, Duplicate))
        if change is not None and not stands:
            await self._release(provider)
        return _Step(provider, config, view, plan)

    async def _view(self, provider: ProviderObject, config: SpaceConfig) -> View:
        """What is stored; a Provider that came back gets its space back first, whatever it says now."""
        view = await read_view(self._store, provider, config)
        if view.row.wanted_identity != config.identity:
            async with self._store.connection() as conn:
                await claims.want(conn, provider.ref, config.identity)
        if view.applied is None or view.applied.state != "orphaned":
            return view
        await reshape.reattach(self._store, _owner(provider), view.applied, OPERATOR)
        return await read_view(self._store, provider, config)

    async def _note_vendor(self, view: View, config: CallConfig) -> None:
        """Before anything is called: whether this Provider's Secret may be another vendor's than its space's."""
        for space in (view.applied, view.beside, *view.stored.kept):
            if space is not None and space.credential_moved is space.config.same_vendor(config):
                async with self._store.connection() as conn:
                    await credentials.set_moved(conn, space.id, moved=not space.credential_moved)

    async def _carry_out(self, step: _Step) -> _Outcome:
        findings = Findings({ConditionType.DIMENSION_SETTLED: step.settled})
        match step.plan:
            case Duplicate(owner, swap):
                return await self._duplicate(step, owner, swap=swap)
            case Hold(word):
                return await self._hold(step, word)
            case Reshape(marker_id):
                return await self._reshape(step, marker_id)
            case Keep() as plan:
                outcome = await self._keep(step, plan)
            case Create(existing_id):
                reached = await self._reached(step)
                await reshape.create(self._store, step.change(existing_id))
                outcome = _Outcome(reached)
            case Beside(existing_id):
                outcome = await self._beside(step, existing_id)
        return replace(outcome, findings=findings.and_then(outcome.findings))

    async def _duplicate(self, step: _Step, owner: str, *, swap: bool) -> _Outcome:
        """Another live Provider has the space that is asked for: everything stays as it is until it leaves it."""
        await self._end_beside(step)
        self.duplicates.add(step.provider.ref)
        way_out = f"edit or delete one of the two; this one gets the space as soon as {owner} leaves it"
        if swap:
            way_out = (
                f"{owner} waits in turn for the space of this one: to swap them, edit one of the two to a third"
                " configuration first"
            )
        text = f"Provider {owner} has the space {step.config.key}; {way_out}"
        return _Outcome(Findings({ConditionType.READY: Verdict(False, Reason.DUPLICATE_SPACE, text)}, Phase.ERROR))

    async def _end_beside(self, step: _Step) -> bool:
        """End what was filled beside for an earlier edit, lest it take the applied space's place; whether there was."""
        applied, beside = step.view.applied, step.view.beside
        if applied is not None and beside is not None and beside.config.identity != step.config.identity:
            await reshape.end_beside(self._store, step.change(), applied, beside)
            return True
        return False

    async def _hold(self, step: _Step, word: str) -> _Outcome:
        """Wait for consent; the applied space goes on serving, and this Provider's credential is still looked at."""
        ended = await self._end_beside(step)
        change = await self._record_held(step, word)
        message, stored = change.message, None if ended else replace(step.view.stored, pending=change)
        verdict = Verdict(False, Reason.CONSENT_REQUIRED, message)
        findings = Findings({ConditionType.DIMENSION_SETTLED: verdict}, Phase.HELD, held_message=message)
        try:
            await self._connector.credential(step.config)
            await self._check_applied_credential(step)
            followed = await self._follow((step.view.applied, *step.view.stored.kept), step.config)
        except MemoryOperatorError as error:
            return _Outcome(findings.and_then(self._failed(step.provider.ref, error)), stored)
        return _Outcome(findings, None if followed else stored)

    async def _check_applied_credential(self, step: _Step) -> None:
        """Raises CredentialChangedWhileHeld where the applied space's Secret holds a key for another vendor by now."""
        applied = step.view.applied
        if applied is not None:
            moved = not applied.config.same_vendor(step.config)
            await self._connector.checked_proof(replace(applied, credential_moved=moved))

    async def _record_held(self, step: _Step, word: str) -> providers.PendingChange:
        """Record the change that waits, with its effect. Raises ProviderChanged."""
        view, config = step.view, step.config
        assert view.applied is not None
        async with self._store.transaction() as conn:
            tokens = await text_sums.estimated_tokens(conn, len(config.document_prefix.encode()))
            cost = cost_of(tokens, config.input_cost_per_1k)
            chunks = view.stored.chunks
            effect = Effect(view.applied.dimensions, config.dimensions, view.vectors, chunks, tokens, cost)
            message = consent_message(effect.from_dim, effect.to_dim, effect.vectors_discarded, word)
            owner = step.owner
            change = providers.PendingChange(
                owner.ref, owner.uid, owner.generation, effect, word, message, datetime.now(UTC), contradiction(config)
            )
            await held.hold(conn, change)
        return change

    async def _keep(self, step: _Step, plan: Keep) -> _Outcome:
        """The applied space is the right one: drop what was begun beside it, copy what may change.

        Only the copying waits for the embedder: a key that does not work never replaces one that does.
        """
        applied, beside, owner = step.view.applied, step.view.beside, step.owner
        assert applied is not None
        moved = (applied.ref, applied.provider_uid, applied.provider_generation) != (
            owner.ref,
            owner.uid,
            owner.generation,
        )
        changed = moved or beside is not None
        if changed:
            await reshape.keep(self._store, step.change(), applied, beside)
        try:
            reached = await self._reached(step)
        except MemoryOperatorError as error:
            return _Outcome(self._failed(owner.ref, error), None if changed else step.view.stored)
        changed = await self._follow(step.view.stored.kept, step.config) or changed
        if plan.refresh or plan.redistance:
            await self._refresh(applied.id, step.config)
            changed = True
        return _Outcome(reached, None if changed or step.view.stored.pending else step.view.stored)

    async def _beside(self, step: _Step, existing_id: int | None) -> _Outcome:
        """Fill the desired space beside the applied one, or go on doing so with what may have changed."""
        reached = await self._reached(step)
        view, config, change = step.view, step.config, step.change(existing_id)
        await self._follow((view.applied, *view.stored.kept), config)
        if view.applied is None or view.beside is None or view.beside.id != existing_id:
            await reshape.fill_beside(self._store, change)
            return _Outcome(reached)
        if view.beside.config != config:
            await self._refresh(view.beside.id, config)
        waits = view.row.activation == "Automatic" and view.beside.state == "ready"
        if waits and coverage_is_comparable(view.row, view.beside, view.stored.counted):
            await reshape.complete_again(self._store, change, view.applied, view.beside)
        return _Outcome(reached)

    async def _follow(self, found: Sequence[Space | None], desired: SpaceConfig) -> bool:
        """Let spaces use a new key, limit or price of the same vendor and model; whether there was one."""
        changed = [(s.id, new) for s in found if s and (new := with_call_fields(s.config, desired)) != s.config]
        for space_id, followed in changed:
            await self._refresh(space_id, followed)
        return bool(changed)

    async def _refresh(self, space_id: int, config: SpaceConfig) -> None:
        """Let a space use what may change without making another one; `createEnabled: true` again fills the gap."""
        async with self._store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            before = await spaces.get(conn, space_id)
            await spaces.refresh_config(conn, space_id, config)
            if before and config.create_enabled and not before.create_enabled:
                await catch_up(conn, before)
            await jobs.wake(conn)

    async def _reshape(self, step: _Step, marker_id: int | None) -> _Outcome:
        """Before anything is destroyed: the Provider is still this one, and its embedder makes such vectors.

        The change is held until then, so that leaving it meanwhile withdraws its consent.
        """
        provider, applied = step.provider, step.view.applied
        assert applied is not None
        if marker_id is not None:
            await self._record_held(step, step.view.consent.word)
        try:
            reached = await self._reached(step, marker_id)
        except MemoryOperatorError as error:
            return _Outcome(await self._still_held(step, error))
        live = await self._source.get(provider.ref)
        if live is None or (live.uid, live.generation) != (provider.uid, provider.generation):
            raise ProviderChanged
        try:
            discarded = await reshape.reshape(self._store, step.change(), applied, marker_id)
        except NeedsConsent as error:
            raise ProviderChanged from error  # held again at the next look
        self._store.metrics.vectors_discarded.inc(discarded)
        log.info(
            "%s: dimension changed from %d to %d, %d vectors discarded",
            provider.ref,
            applied.dimensions,
            step.config.dimensions,
            discarded,
            extra={"provider": str(provider.ref)},
        )
        return _Outcome(reached.saying(ConditionType.DIMENSION_SETTLED, step.settled))

    async def _still_held(self, step: _Step, error: MemoryOperatorError) -> Findings:
        """A change that has its consent, but whose embedder does not make such vectors."""
        reason = Reason.DIMENSION_MISMATCH if isinstance(error, BadReply) else Reason.EMBEDDER_UNREACHABLE
        text = f"{error.message}; nothing was discarded and the consent is kept; {error.hint}".rstrip("; ")
        async with self._store.connection() as conn:
            await providers.explain_held(conn, step.provider.ref, text)
        verdict = Verdict(False, reason, text)
        failed = self._failed(step.provider.ref, error)
        return replace(failed.saying(ConditionType.DIMENSION_SETTLED, verdict), phase=Phase.HELD, held_message=text)

    async def _release(self, provider: ProviderObject) -> None:
        """A change that no longer waits leaves nothing behind: its markers are withdrawn."""
        async with self._store.transaction() as conn:
            await held.release(conn, provider.ref)

    async def _reached(self, step: _Step, marker_id: int | None = None) -> Findings:
        """That the embedder answers with vectors of the desired length. Raises what `Probes.dimensions` raises."""
        dimensions = step.config.dimensions
        actual = await self._probes.dimensions(step.owner, step.config, dimensions, marker_id)
        return Findings(
            {
                ConditionType.CREDENTIAL_RESOLVED: Verdict(True, Reason.RESOLVED),
                ConditionType.REACHABLE: Verdict(True, Reason.ANSWERED, f"{actual} dimensions"),
            }
        )


def _owner(provider: ProviderObject) -> Owner:
    return Owner(provider.ref, provider.uid, provider.generation)
