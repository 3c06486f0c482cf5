"""What a reconcile found out, by condition, and how the errors of our tree become conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """The value of one condition."""

    ok: bool
    reason: Reason
    message: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """Verdicts by condition type; a type that nothing was found out about is absent. Values: no method changes one."""

    verdicts: Mapping[ConditionType, Verdict] = field(default_factory=dict)
    phase: Phase | None = None
    """A phase that overrides the one that follows from the spaces."""
    retry_after: float | None = None
    """Seconds after which to look again, where nothing else would make us."""
    held_message: str | None = None
    desired_dimensions: int | None = None

    def saying(self, condition: ConditionType, verdict: Verdict) -> Findings:
        """These findings with one condition set."""
        return replace(self, verdicts={**self.verdicts, condition: verdict})

    def failing(self, error: MemoryOperatorError, retry_after: float | None = None) -> Findings:
        """These findings with an error as the condition it belongs to, and what to do in its message."""
        condition, reason, phase = place_of(error)
        text = f"{error.message}; {error.hint}" if error.hint else error.message
        said = self.saying(condition, Verdict(False, reason, text))
        return replace(said, phase=self.phase or phase, retry_after=retry_after or self.retry_after)

    def and_then(self, later: Findings) -> Findings:
        """These findings and later ones, which count where both say something."""
        return Findings(
            {**self.verdicts, **later.verdicts},
            self.phase or later.phase,
            later.retry_after or self.retry_after,
            later.held_message or self.held_message,
            later.desired_dimensions or self.desired_dimensions,
        )


_PLACES: tuple[tuple[type[MemoryOperatorError], tuple[ConditionType, Reason, Phase]], ...] = (
    (
        CredentialChangedWhileHeld,
        (ConditionType.CREDENTIAL_RESOLVED, Reason.CREDENTIAL_CHANGED_WHILE_HELD, Phase.ERROR),
    ),
    (SecretMissing, (ConditionType.CREDENTIAL_RESOLVED, Reason.SECRET_MISSING, Phase.ERROR)),
    (SourceUnavailable, (ConditionType.CREDENTIAL_RESOLVED, Reason.SECRET_UNREADABLE, Phase.ERROR)),
    (CredentialRefused, (ConditionType.REACHABLE, Reason.CREDENTIAL_REFUSED, Phase.ERROR)),
    (BadReply, (ConditionType.REACHABLE, Reason.REQUEST_REJECTED, Phase.ERROR)),
    (RequestRejected, (ConditionType.REACHABLE, Reason.REQUEST_REJECTED, Phase.ERROR)),
    (InvalidInput, (ConditionType.DIMENSION_SETTLED, Reason.DIMENSION_ABOVE_LIMIT, Phase.ERROR)),
    (UnsupportedType, (ConditionType.READY, Reason.UNSUPPORTED_TYPE, Phase.ERROR)),
    (ConfigurationError, (ConditionType.READY, Reason.INVALID_SPEC, Phase.ERROR)),
    (LockBusy, (ConditionType.DIMENSION_SETTLED, Reason.WAITING_FOR_LOCK, Phase.PENDING)),
    (MemoryOperatorError, (ConditionType.REACHABLE, Reason.EMBEDDER_UNREACHABLE, Phase.UNAVAILABLE)),
)
"""The first that fits an error counts."""


def place_of(error: MemoryOperatorError) -> tuple[ConditionType, Reason, Phase]:
    """Condition, reason and phase of an error."""
    if isinstance(error, BadReply) and error.actual_dimensions is not None:
        return ConditionType.DIMENSION_SETTLED, Reason.DIMENSION_MISMATCH, Phase.ERROR
    return next(place for kind, place in _PLACES if isinstance(error, kind))
