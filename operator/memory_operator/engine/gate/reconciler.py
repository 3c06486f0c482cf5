"""One reconcile of one Provider: compare desired with applied, act, and say what was found."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime

from memory_operator.contract.provider import EmbeddingSpec, ProviderSpec
from memory_operator.contract.resource import ProviderObject, ProviderRef
from memory_operator.contract.status import ConditionType, Phase, Reason
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.metered import probe_dimensions
from memory_operator.engine.gate import reshape
from memory_operator.engine.gate.findings import Findings
from memory_operator.engine.gate.reporter import Reporter
from memory_operator.engine.gate.reshape import Change
from memory_operator.engine.gate.snapshot import View, read_view
from memory_operator.engine.ports.sources import ProviderSource
from memory_operator.engine.spaces.activation import catch_up, coverage_is_comparable
from memory_operator.errors import BadReply, InvalidInput, LockBusy, MemoryOperatorError, NeedsConsent, ProviderChanged
from memory_operator.logs import get_logger
from memory_operator.memory.preprocess import PREPROCESSING_VERSION
from memory_operator.plan.consent import consent_message
from memory_operator.plan.cost import Effect, cost_of
from memory_operator.plan.decide import Beside, Create, Desired, Duplicate, Hold, Keep, Plan, Reshape, decide
from memory_operator.plan.desired import call_config, declared_dimension, reshape_target, space_config
from memory_operator.plan.space import CallConfig, SpaceConfig, with_call_fields
from memory_operator.store.db import activity, locks
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import jobs, missing
from memory_operator.store.spaces import consent, providers, registry, spaces
from memory_operator.store.spaces.spaces import Owner

log = get_logger(__name__)

_LOCK_WAIT_SECONDS = 5.0
_VERIFY_SECONDS = 300.0
"""How long an embedder that answered as it should is believed to go on doing so."""
_SOON_SECONDS = 0.2

OPERATOR = Actor("memory-operator", "operator")


class Reconciler:
    """Reconciles Providers from one source. Safe to run in several processes at once."""

    def __init__(self, store: Store, source: ProviderSource, connector: Connector, report: Reporter) -> None:
        self._store = store
        self._source = source
        self._connector = connector
        self._report = report
        self._verified: dict[ProviderRef, tuple[float, CallConfig, int]] = {}

    async def observe(self, provider: ProviderObject) -> bool:
        """Store what a Provider says; False when something newer is known, or it is not one of ours."""
        if not is_ours(self._source, provider):
            return False
        async with self._store.transaction() as conn:
            return await providers.observe(
                conn,
                provider.ref,
                provider.uid,
                provider.generation,
                provider.created_at,
                _declared_spec(provider.spec),
            )

    async def reconcile(self, ref: ProviderRef) -> float | None:
        """Bring one Provider to what it says; after how many seconds to look again, or None."""
        try:
            async with locks.provider_lock(self._store, ref, _LOCK_WAIT_SECONDS):
                # Looked at under the lock: what was there before it was waited for may be gone by now.
                provider = await self._source.get(ref)
                if provider is None:
                    return None  # absence counts only in a full listing
                if not self._source.serves(ref.namespace):
                    await self._report.not_served(provider)
                    return None
                if not await self.observe(provider):
                    return None
                with self._store.metrics.reconcile_seconds.time():
                    findings = await self._settle(provider)
                self._store.metrics.reconciles.labels(str(findings.phase or "Settled")).inc()
                await self._report.publish(provider, findings)
                return findings.retry_after
        except ProviderChanged:
            return _SOON_SECONDS
        except LockBusy as busy:
            log.info("%s waits: %s", ref, busy, extra={"provider": str(ref)})
            return random.uniform(0.5, 2.0)

    async def _settle(self, provider: ProviderObject) -> Findings:
        findings = Findings()
        if provider.spec is None:
            findings.say(ConditionType.READY, False, Reason.INVALID_SPEC, "; ".join(provider.problems))
            findings.phase = Phase.ERROR
            return findings
        try:
            await self._act(provider, provider.spec, findings)
        except ProviderChanged:
            raise
        except LockBusy as busy:
            findings.trouble(busy)
            findings.retry_after = random.uniform(0.5, 2.0)
        except MemoryOperatorError as error:
            findings.trouble(error)
            log.warning("%s: %s", provider.ref, error, extra={"provider": str(provider.ref)})
        return findings

    async def _act(self, provider: ProviderObject, spec: ProviderSpec, findings: Findings) -> None:
        call = call_config(provider.ref.namespace, spec)
        dimension = declared_dimension(spec)
        if dimension is None:
            dimension = await self._verify(provider.ref, call, None, findings)
        findings.desired_dimensions = dimension
        try:
            config = space_config(call, spec, dimension, PREPROCESSING_VERSION)
        except InvalidInput:
            await self._release(provider)  # what was held before is not asked for any more
            raise
        change_kind = spec.embedding.dimension_change if spec.embedding else None
        desired = Desired(config, "Shadow" if change_kind == "Shadow" else "InPlace")
        view = await self._view(provider, config)
        await self._note_vendor(view, config)
        plan = decide(desired, view.applied_now, view.beside_now, view.existing, view.consent)
        if not isinstance(plan, Hold | Reshape):
            await self._release(provider)
        await self._carry_out(provider, config, view, plan, findings)

    async def _view(self, provider: ProviderObject, config: SpaceConfig) -> View:
        """What is stored; a Provider that came back gets its space back first, whatever it says now."""
        view = await read_view(self._store, provider, config)
        if view.applied is None or view.applied.state != "orphaned":
            return view
        await reshape.reattach(self._store, _owner(provider), view.applied, OPERATOR)
        return await read_view(self._store, provider, config)

    async def _note_vendor(self, view: View, config: CallConfig) -> None:
        """Before anything is called: whether this Provider's Secret may be another vendor's than its space's."""
        for space in (view.applied, view.beside):
            if space is not None and space.credential_moved is space.config.same_vendor(config):
                async with self._store.connection() as conn:
                    await spaces.set_credential_moved(conn, space.id, moved=not space.credential_moved)

    async def _carry_out(
        self, provider: ProviderObject, config: SpaceConfig, view: View, plan: Plan, findings: Findings
    ) -> None:
        change = Change(_owner(provider), config, None, OPERATOR)
        match plan:
            case Duplicate(owner):
                text = f"Provider {owner}, which is older, has the space {config.key} already; delete one of the two"
                findings.say(ConditionType.READY, False, Reason.DUPLICATE_SPACE, text)
                findings.phase = Phase.ERROR
            case Hold(word):
                await self._hold(provider, config, view, word, findings)
            case Keep():
                await self._keep(change, view, plan, findings)
            case Create(existing_id):
                await self._verify(provider.ref, config, config.dimensions, findings)
                await reshape.create(self._store, _with(change, existing_id))
            case Beside(existing_id):
                await self._beside(_with(change, existing_id), view, findings)
            case Reshape(marker_id, existing_id):
                await self._reshape(provider, _with(change, existing_id), view, marker_id, findings)
        if not isinstance(plan, Hold | Duplicate) and ConditionType.DIMENSION_SETTLED not in findings.verdicts:
            findings.say(ConditionType.DIMENSION_SETTLED, True, Reason.SETTLED, f"dimension {config.dimensions}")

    async def _hold(
        self, provider: ProviderObject, config: SpaceConfig, view: View, word: str, findings: Findings
    ) -> None:
        """Wait for consent; the applied space goes on serving, and this Provider's credential is still looked at.

        What was filled beside it for an earlier edit ends: nothing takes its place while a change is held.
        """
        assert view.applied is not None
        if view.beside is not None and view.beside.identity != config.identity:
            change = Change(_owner(provider), config, None, OPERATOR)
            await reshape.end_beside(self._store, change, view.applied, view.beside)
        async with self._store.transaction() as conn:
            tokens = await missing.estimated_tokens(conn)
            cost = cost_of(tokens, config.input_cost_per_1k)
            effect = Effect(view.applied.dimensions, config.dimensions, view.vectors, view.chunks, tokens, cost)
            message = consent_message(effect.from_dim, effect.to_dim, effect.vectors_discarded, word)
            held = providers.PendingChange(
                provider.ref, provider.uid, provider.generation, effect, word, message, datetime.now(UTC)
            )
            if not await providers.hold(conn, held):
                raise ProviderChanged
        findings.held_message = message
        findings.estimated_tokens = tokens
        findings.estimated_cost = None if cost is None else str(cost)
        findings.say(ConditionType.DIMENSION_SETTLED, False, Reason.CONSENT_REQUIRED, message)
        findings.phase = Phase.HELD
        try:
            await self._connector.credential(config)
            applied = view.applied
            moved = not applied.config.same_vendor(config)
            await self._connector.checked_proof(replace(applied, credential_moved=moved))
            await self._follow(view, config)
        except MemoryOperatorError as error:
            findings.trouble(error)

    async def _keep(self, change: Change, view: View, plan: Keep, findings: Findings) -> None:
        """The applied space is the right one: drop what was begun beside it, copy what may change.

        Only the copying waits for the embedder: a key that does not work never replaces one that does.
        """
        assert view.applied is not None
        applied = view.applied
        findings.say(ConditionType.DIMENSION_SETTLED, True, Reason.SETTLED, f"dimension {applied.dimensions}")
        owner = change.owner
        moved = (applied.ref, applied.provider_uid, applied.provider_generation) != (
            owner.ref,
            owner.uid,
            owner.generation,
        )
        if moved or view.beside:
            await reshape.keep(self._store, change, applied, view.beside)
        await self._verify(owner.ref, change.config, change.config.dimensions, findings)
        if plan.refresh or plan.redistance:
            await self._refresh(applied.id, change.config)

    async def _beside(self, change: Change, view: View, findings: Findings) -> None:
        """Fill the desired space beside the applied one, or go on doing so with what may have changed."""
        await self._verify(change.owner.ref, change.config, change.config.dimensions, findings)
        await self._follow(view, change.config)
        if view.applied is None or view.beside is None or view.beside.id != change.existing_id:
            await reshape.fill_beside(self._store, change)
            return
        if view.beside.config != change.config:
            await self._refresh(view.beside.id, change.config)
        waits = view.row.activation == "Automatic" and view.beside.state == "ready"
        if waits and coverage_is_comparable(view.row, view.beside, view.counted):
            await reshape.complete_again(self._store, change, view.applied, view.beside)

    async def _follow(self, view: View, desired: SpaceConfig) -> None:
        """Let the applied space use a new key, limit or price of the same vendor and model."""
        if view.applied:
            followed = with_call_fields(view.applied.config, desired)
            if followed != view.applied.config:
                await self._refresh(view.applied.id, followed)

    async def _refresh(self, space_id: int, config: SpaceConfig) -> None:
        """Let a space use what may change without making another one; `createEnabled: true` again fills the gap."""
        async with self._store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            before = await spaces.get(conn, space_id)
            await spaces.refresh_config(conn, space_id, config)
            if before and config.create_enabled and not before.create_enabled:
                await catch_up(conn, before)
            await jobs.wake(conn)

    async def _reshape(
        self, provider: ProviderObject, change: Change, view: View, marker_id: int | None, findings: Findings
    ) -> None:
        """Before anything is destroyed: the Provider is still this one, and its embedder makes such vectors."""
        assert view.applied is not None
        live = await self._source.get(provider.ref)
        if live is None or (live.uid, live.generation) != (provider.uid, provider.generation):
            raise ProviderChanged
        self._verified.pop(provider.ref, None)
        try:
            await self._verify(provider.ref, change.config, change.config.dimensions, findings)
        except MemoryOperatorError as error:
            findings.trouble(error)
            refused = isinstance(error, BadReply)
            reason = Reason.DIMENSION_MISMATCH if refused else Reason.EMBEDDER_UNREACHABLE
            text = f"{error.message}; nothing was discarded and the consent is kept; {error.hint}".rstrip("; ")
            findings.say(ConditionType.DIMENSION_SETTLED, False, reason, text)
            findings.phase = Phase.HELD
            findings.held_message = text
            async with self._store.connection() as conn:
                await providers.explain_held(conn, provider.ref, text)
            return
        try:
            discarded = await reshape.reshape(self._store, change, view.applied, marker_id)
            self._store.metrics.vectors_discarded.inc(discarded)
        except NeedsConsent as error:
            raise ProviderChanged from error  # held again at the next look
        log.info(
            "dimension changed from %d to %d, %d vectors discarded",
            view.applied.dimensions,
            change.config.dimensions,
            discarded,
            extra={"provider": str(provider.ref)},
        )

    async def _release(self, provider: ProviderObject) -> None:
        """A change that no longer waits leaves nothing behind: its markers are withdrawn."""
        async with self._store.transaction() as conn:
            await release_held(conn, provider.ref)

    async def _verify(self, ref: ProviderRef, call: CallConfig, dimensions: int | None, findings: Findings) -> int:
        """One call to the embedder, unless it answered lately; the length of its vectors.

        Raises what the embedder raises; BadReply (with `actual_dimensions`) where the length is not `dimensions`.
        """
        now = asyncio.get_running_loop().time()
        at, verified, actual = self._verified.get(ref, (0.0, None, 0))
        endpoint = CallConfig.model_validate(call.model_dump(include=set(CallConfig.model_fields)))
        await self._connector.embedder(call)  # a Secret that is gone is told even while the embedder is believed
        if verified != endpoint or now - at > _VERIFY_SECONDS:
            self._verified.pop(ref, None)
            actual = await self._probe(ref, call)
            self._verified[ref] = (now, endpoint, actual)
        if dimensions is not None and actual != dimensions:
            self._verified.pop(ref, None)
            raise BadReply(
                f"the model {call.model or call.type} returns vectors of {actual} dimensions, not {dimensions}",
                hint=f"set spec.embedding.dimensions to {actual}, or choose a model of {dimensions}",
                actual_dimensions=actual,
            )
        findings.say(ConditionType.CREDENTIAL_RESOLVED, True, Reason.RESOLVED)
        findings.say(ConditionType.REACHABLE, True, Reason.ANSWERED, f"{actual} dimensions")
        return actual

    async def _probe(self, ref: ProviderRef, call: CallConfig) -> int:
        try:
            return await probe_dimensions(self._store, self._connector, ref, call)
        except MemoryOperatorError as error:
            self._connector.forget(call, error)
            raise


async def release_held(conn: Conn, ref: ProviderRef) -> None:
    """Settle a held change that is no longer asked for, and withdraw the markers that matched it."""
    to_dim = await providers.settle(conn, ref)
    if to_dim is None:
        return
    others = [other for other in await providers.providers_targeting(conn, to_dim) if other != ref]
    withdrawn = await consent.withdraw_matching(conn, ref, to_dim, also_unnamed=not others)
    await activity.record(conn, OPERATOR, "release", str(ref), to_dim=to_dim, markers_withdrawn=withdrawn)


def is_ours(source: ProviderSource, provider: ProviderObject) -> bool:
    """Whether a Provider is an embedding one in a served namespace. One that cannot be read may be."""
    return source.serves(provider.ref.namespace) and (provider.spec is None or provider.spec.role == "embedding")


def _declared_spec(spec: ProviderSpec | None) -> providers.DeclaredSpec | None:
    """What the store keeps of a spec; nothing of one that cannot be read."""
    if spec is None:
        return None
    embedding = spec.embedding or EmbeddingSpec()
    return providers.DeclaredSpec(
        embedding.activation or "Automatic", embedding.column_type or "vector", reshape_target(spec)
    )


def _owner(provider: ProviderObject) -> Owner:
    return Owner(provider.ref, provider.uid, provider.generation)


def _with(change: Change, existing_id: int | None) -> Change:
    return Change(change.owner, change.config, existing_id, change.actor)
