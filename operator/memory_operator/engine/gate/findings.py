"""What a reconcile found out, by condition, and how the errors of our tree become conditions."""

from __future__ import annotations

from dataclasses import dataclass, field

from memory_operator.contract.status import ConditionType, Phase, Reason
from memory_operator.errors import (
    BadReply,
    ConfigurationError,
    CredentialChangedWhileHeld,
    CredentialRefused,
    InvalidInput,
    LockBusy,
    MemoryOperatorError,
    RequestRejected,
    SecretMissing,
    SourceUnavailable,
    UnsupportedType,
)

RETRY_SECONDS = 5.0
"""How soon a reconcile is tried again that something outside stood in the way of."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The value of one condition."""

    ok: bool
    reason: Reason
    message: str


@dataclass(slots=True)
class Findings:
    """Verdicts by condition type; a type that nothing was found out about is absent."""

    verdicts: dict[ConditionType, Verdict] = field(default_factory=dict)
    phase: Phase | None = None
    """A phase that overrides the one that follows from the spaces."""
    retry_after: float | None = None
    held_message: str | None = None
    desired_dimensions: int | None = None
    estimated_tokens: int | None = None
    estimated_cost: str | None = None

    def say(self, condition: ConditionType, ok: bool, reason: Reason, message: str = "") -> None:
        """Set one condition."""
        self.verdicts[condition] = Verdict(ok, reason, message)

    def trouble(self, error: MemoryOperatorError) -> None:
        """Turn an error into the condition it belongs to, with what to do in its message."""
        condition, reason, phase = place_of(error)
        self.say(condition, False, reason, f"{error.message}; {error.hint}" if error.hint else error.message)
        self.phase = self.phase or phase
        self.retry_after = RETRY_SECONDS


def place_of(error: MemoryOperatorError) -> tuple[ConditionType, Reason, Phase]:
    """Condition, reason and phase of an error."""
    match error:
        case CredentialChangedWhileHeld():
            return ConditionType.CREDENTIAL_RESOLVED, Reason.CREDENTIAL_CHANGED_WHILE_HELD, Phase.ERROR
        case SecretMissing():
            return ConditionType.CREDENTIAL_RESOLVED, Reason.SECRET_MISSING, Phase.ERROR
        case SourceUnavailable():
            return ConditionType.CREDENTIAL_RESOLVED, Reason.SECRET_UNREADABLE, Phase.ERROR
        case CredentialRefused():
            return ConditionType.REACHABLE, Reason.CREDENTIAL_REFUSED, Phase.ERROR
        case BadReply(actual_dimensions=int()):
            return ConditionType.DIMENSION_SETTLED, Reason.DIMENSION_MISMATCH, Phase.ERROR
        case BadReply() | RequestRejected():
            return ConditionType.REACHABLE, Reason.REQUEST_REJECTED, Phase.ERROR
        case InvalidInput():
            return ConditionType.DIMENSION_SETTLED, Reason.DIMENSION_ABOVE_LIMIT, Phase.ERROR
        case UnsupportedType():
            return ConditionType.READY, Reason.UNSUPPORTED_TYPE, Phase.ERROR
        case ConfigurationError():
            return ConditionType.READY, Reason.INVALID_SPEC, Phase.ERROR
        case LockBusy():
            return ConditionType.DIMENSION_SETTLED, Reason.WAITING_FOR_LOCK, Phase.PENDING
        case _:
            return ConditionType.REACHABLE, Reason.EMBEDDER_UNREACHABLE, Phase.UNAVAILABLE
