"""From findings and what is stored to conditions, phase and figures; pure functions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from memory_operator.contract.resource import ProviderObject
from memory_operator.contract.status import (
    FAULTS,
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
from memory_operator.engine.gate.snapshot import StoredState
from memory_operator.engine.ports.sources import ProviderEvent
from memory_operator.plan.coverage import shown
from memory_operator.plan.index import describe
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.spaces import activation_requests
from memory_operator.store.spaces.rerank_apis import ANSWERED
from memory_operator.store.spaces.spaces import Space

_WORKER_REASONS = {"CredentialRefused": Reason.CREDENTIAL_REFUSED, "RateLimited": Reason.RATE_LIMITED}
"""What Reachable says of an error that the worker met, by its class; all others are EmbedderUnreachable."""

_RERANK_REASONS = {
    "CredentialRefused": Reason.CREDENTIAL_REFUSED,
    "SecretMissing": Reason.SECRET_MISSING,
    "RequestRejected": Reason.REQUEST_REJECTED,
    "BadReply": Reason.REQUEST_REJECTED,
    "BudgetReached": Reason.BUDGET_REACHED,
}
"""What Reranking says of an error that queries met, by its class; all others are RerankerUnreachable."""

_HARMLESS = (Reason.FILLING, Reason.NOT_ACTIVE, Reason.NO_SPACE)
"""Reasons for a False that nobody needs to act on."""

_WITH_FIGURES = (ConditionType.POPULATED, *FAULTS)
"""Conditions whose messages have such figures."""

_FIGURES = {"kept_tokens", "kept_cost", "vectors", "chunks", "coverage", "quarantined", "eta_seconds"}
"""Fields of the status that change with each write."""


def transitions(before: ProviderStatus | None, now: ProviderStatus) -> list[ProviderEvent]:
    """One Event for each condition whose status or reason changed, and one where the space was switched.

    Ready speaks only where no other condition does; what is wrong with a spec is told for each new text.
    """
    known = {condition.type: condition for condition in before.conditions} if before else {}
    changed = [condition for condition in now.conditions if _is_news(known.get(condition.type), condition)]
    told = {condition.reason for condition in changed if condition.type != ConditionType.READY}
    return [*_switch(before, now), *_activation(before, now)] + [
        ProviderEvent(_kind(c), str(c.reason), c.message or str(c.reason))
        for c in changed
        if (c.type != ConditionType.READY or c.reason not in told) and c.status != "Unknown"
    ]


def _is_news(before: Condition | None, now: Condition) -> bool:
    if before is None or (before.status, before.reason) != (now.status, now.reason):
        return True
    return now.reason == Reason.INVALID_SPEC and before.message != now.message


def _switch(before: ProviderStatus | None, now: ProviderStatus) -> list[ProviderEvent]:
    """The Event of another space in place of the one that a Provider had."""
    old, new = before.embedding if before else None, now.embedding
    if old is None or new is None or None in (old.embedding_version, new.embedding_version):
        return []
    if old.embedding_version == new.embedding_version:
        return []
    text = f"{new.embedding_version} has taken the place of {old.embedding_version}"
    return [ProviderEvent("Normal", "SpaceSwitched", f"{text}; dimension {new.applied_dimensions}")]


def _activation(before: ProviderStatus | None, now: ProviderStatus) -> list[ProviderEvent]:
    """The Event of an activation that the annotation asked for."""
    old, new = before.embedding if before else None, now.embedding
    if new is None or new.activate_result is None:
        return []
    if old is not None and (old.activate, old.activate_result) == (new.activate, new.activate_result):
        return []
    text = f"memory-operator/activate={new.activate}: {new.activate_message}"
    if new.activate_result == "Done":
        return [ProviderEvent("Normal", "Activated", text)]
    return [ProviderEvent("Warning", "ActivationRefused", text)]


def differs(before: ProviderStatus | None, now: ProviderStatus, *, with_figures: bool) -> bool:
    """Whether two statuses differ, with or without the figures that change with each write."""
    if before is None or with_figures:
        return before != now
    return _without_figures(before) != _without_figures(now)


def _without_figures(status: ProviderStatus) -> object:
    conditions = [
        (each.type, each.status, each.reason, None if each.type in _WITH_FIGURES else each.message)
        for each in status.conditions
    ]
    embedding = status.embedding.model_dump(exclude=_FIGURES) if status.embedding else None
    return status.phase, status.observed_generation, conditions, embedding


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
    good = "False" if condition.type in FAULTS else "True"
    return "Normal" if condition.status == good or condition.reason in _HARMLESS else "Warning"


def compose(
    provider: ProviderObject, findings: Findings, stored: StoredState | None, before: ProviderStatus | None
) -> ProviderStatus:
    """The status that follows from the findings and the store."""
    verdicts = {**findings.verdicts, **(_of_spaces(stored) if stored else {})}
    phase = _phase(findings, verdicts, stored)
    if ConditionType.READY not in verdicts:
        verdicts[ConditionType.READY] = _ready(verdicts, phase)
    now = datetime.now(UTC)
    known = before.conditions if before else []
    for each in known if stored else ():
        if each.type in FAULTS and each.type not in verdicts:
            verdicts[ConditionType(each.type)] = Verdict(False, Reason.AS_BEFORE)
    conditions = [each for each in known if each.type != ConditionType.RERANKING or each.type in verdicts]
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


def _of_spaces(stored: StoredState) -> dict[ConditionType, Verdict]:
    """These follow from the store alone; Reachable also from what the worker last met."""
    target = stored.beside or stored.applied
    verdicts = {**_reranking(stored), **_of_models(stored)}
    for space in (stored.applied, stored.beside):
        if space and space.id in stored.last_errors:
            code, text = stored.last_errors[space.id]
            reason = _WORKER_REASONS.get(code, Reason.EMBEDDER_UNREACHABLE)
            verdicts[ConditionType.REACHABLE] = Verdict(False, reason, text)
    if target is None:
        verdicts[ConditionType.POPULATED] = Verdict(False, Reason.NO_SPACE, "no space yet")
        verdicts[ConditionType.ACTIVE] = Verdict(False, Reason.NO_SPACE, "no space yet")
    else:
        verdicts[ConditionType.POPULATED] = _populated(target, stored)
        verdicts[ConditionType.ACTIVE] = _active(stored)
    return verdicts


def _reranking(stored: StoredState) -> dict[ConditionType, Verdict]:
    """How the rerank API answers; nothing before a query has called it. Answers are whole without it."""
    outcome = stored.row.rerank_outcome if stored.row else None
    if stored.row is None or outcome is None:
        return {}
    if outcome == ANSWERED:
        return {ConditionType.RERANKING: Verdict(True, Reason.ANSWERED)}
    reason = _RERANK_REASONS.get(outcome, Reason.RERANKER_UNREACHABLE)
    return {ConditionType.RERANKING: Verdict(False, reason, stored.row.rerank_message or "")}


def _of_models(stored: StoredState) -> dict[ConditionType, Verdict]:
    """What is wrong with the model of the applied space; nothing where nothing is."""
    space, checks = stored.applied, stored.checks
    found = checks.of.get(space.id) if space else None
    if space is None or found is None:
        return {}
    verdicts, model = {}, f"{space.config.model or space.config.type} of {space.embedding_version}"
    if found.gone_since is not None:
        text = f"the vendor has no model {model} any more, said since {found.gone_since:%Y-%m-%d %H:%M} UTC"
        verdicts[ConditionType.MODEL_RETIRED] = Verdict(True, Reason.MODEL_GONE, f"{text}; {checks.way_out(space)}")
    if found.drifted_since is not None:
        text = (
            f"{model} makes other vectors than it did, since {found.drifted_since:%Y-%m-%d %H:%M} UTC: fixed texts"
            f" are {found.drift or 0:.2g} from where they were, the vendor's noise is {found.noise or 0:.2g}; what is"
            " new does not compare with what is stored"
        )
        verdicts[ConditionType.MODEL_DRIFTED] = Verdict(True, Reason.OTHER_VECTORS, f"{text}; {checks.rebuilt(space)}")
    return verdicts


def _populated(target: Space, stored: StoredState) -> Verdict:
    share = f"{stored.counted.get(target.id, 0)} of {stored.chunks} chunks have a vector"
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
    if stored.beside and stored.gate and not stored.gate.passed:
        hint = f"`memory embeddings activate {stored.beside.embedding_version} --force` switches all the same"
        found = "is not good enough" if stored.gate.measured else "could not be compared so far"
        text = f"{stored.beside.embedding_version} {found}: {stored.gate.message}; {hint}"
        return Verdict(False, Reason.GATE_NOT_PASSED, text)
    if stored.applied and stored.applied.id == active_id:
        return Verdict(True, Reason.ACTIVE, f"queries read {stored.applied.embedding_version}")
    if active_id is None:
        return Verdict(
            False, Reason.NOT_ACTIVE, f"no space is active ({stored.registry.inactive_reason}); activate one"
        )
    back = next((space.embedding_version for space in stored.kept if space.id == active_id), "another space")
    return Verdict(False, Reason.NOT_ACTIVE, f"{back} is active; `memory embeddings activate` changes that")


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
    held = stored.pending.effect if stored.pending else None
    way_back = max(stored.kept, key=lambda space: space.id, default=None)
    index, reason = None, None
    if applied:
        index, reason = describe(applied.index, applied.config.index, stored.counted.get(applied.id, 0))
    return EmbeddingStatus(
        embedding_version=applied.embedding_version if applied else None,
        applied_dimensions=applied.dimensions if applied else None,
        desired_dimensions=findings.desired_dimensions,
        vectors=stored.counted.get(target.id, 0) if target else 0,
        chunks=stored.chunks,
        coverage=shown(stored.covered(target)) if target else 0.0,
        quarantined=stored.quarantined.get(target.id, 0) if target else 0,
        active=applied is not None and applied.id == stored.registry.active_space_id,
        index=index,
        index_reason=reason,
        way_back=way_back.embedding_version if way_back else None,
        kept_until=way_back.kept_until if way_back else None,
        kept_tokens=way_back.kept_tokens if way_back else None,
        kept_cost=f"{way_back.kept_cost:f}" if way_back and way_back.kept_cost is not None else None,
        **_asked_for(stored),
        eta_seconds=_eta(stored.jobs.get(target.id)) if target else None,
        estimated_tokens=held.estimated_tokens if held else None,
        estimated_cost=str(held.estimated_cost) if held and held.estimated_cost is not None else None,
        currency=held.currency if held else None,
        observed_generation=provider.generation,
    )


def _asked_for(stored: StoredState) -> dict[str, str]:
    """What became of the annotation that asks for an activation; nothing where it was not acted on."""
    request = activation_requests.of_stored(stored.row.activation_request) if stored.row else None
    if request is None or request.result not in ("done", "refused"):
        return {}
    return {
        "activate": request.value,
        "activate_result": request.result.capitalize(),
        "activate_message": f"{request.message} (asked for by {request.by})",
    }


def _eta(job: Job | None) -> int | None:
    """Seconds until a running job is done at the rate it had so far."""
    if job is None or job.state != "running" or job.first_call_at is None or job.done == 0:
        return None
    passed = (datetime.now(UTC) - job.first_call_at).total_seconds()
    return max(0, round((job.total - job.done) * passed / job.done))
