"""One tree of errors. A class says what the caller can do, not where it happened.

    MemoryOperatorError
    ├── Retryable                 the same call may succeed later
    │   ├── EmbedderUnreachable   no answer, or a 5xx, from a vendor
    │   ├── RateLimited           a vendor asked us to slow down
    │   ├── BudgetReached         a Provider's budget leaves no room today
    │   ├── SourceUnavailable     the API server, a Secret or a folder could not be read
    │   ├── StoreUnavailable      PostgreSQL could not be reached
    │   ├── LockBusy              another session holds a lock that we do not queue behind
    │   └── Stale                 what was decided on is no longer so: look again, then decide
    │       ├── ProviderChanged   a Provider says something else by now
    │       ├── MemoryChanged     another version of a memory was stored meanwhile
    │       ├── SpaceVanished     a space was discarded while it was being worked on
    │       └── LeaseLost         another worker has claimed the range
    ├── Permanent                 the same call fails again until somebody changes something
    │   ├── InvalidInput          what the user gave cannot be used
    │   ├── NotFound
    │   ├── Conflict              refused in the present state; `code` names it
    │   ├── CredentialRefused     a vendor does not accept the key
    │   ├── RequestRejected       a vendor refuses the request itself
    │   │   └── ModelGone         it says itself that it has no such model
    │   ├── BadReply              a vendor's reply has a wrong count, length or value
    │   ├── SecretMissing         a Secret, or the key in it, does not exist
    │   │   └── CredentialChangedWhileHeld   it may be a new vendor's key, which the old one must not see
    │   ├── NotPermitted          the database user has not the right that this needs
    │   ├── UnsupportedType       no embedder is built for this Provider type
    │   └── ConfigurationError    a process cannot start as it is configured
    └── NeedsConsent              a change waits for a person

Messages and hints are shown to users: they never hold a secret, nor the body of a foreign reply.
`http/problems.py` turns them into answers, `cli.py` into exit codes.
"""

from __future__ import annotations

from collections.abc import Collection


class MemoryOperatorError(Exception):
    """Something that memory-operator expected could go wrong."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.hint = hint

    @property
    def message(self) -> str:
        """The text for a person, without the hint."""
        return str(self.args[0])


class Retryable(MemoryOperatorError):
    """The same call may succeed later."""

    def __init__(self, message: str = "", *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        """Seconds that the other side asked us to wait; None when it did not say."""


class EmbedderUnreachable(Retryable):
    """The embedding vendor cannot be reached."""


class RateLimited(Retryable):
    """The embedding vendor asks us to slow down."""


class BudgetReached(Retryable):
    """A Provider's budget leaves no room for this call today."""


class SourceUnavailable(Retryable):
    """Providers or Secrets cannot be read at the moment."""


class StoreUnavailable(Retryable):
    """The database cannot be reached."""


class LockBusy(Retryable):
    """Another session holds a lock that is needed for this."""

    def __init__(self, message: str = "", *, hint: str = "", blockers: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.blockers = blockers
        """One line for each session in the way: process id, application, state, age."""


class Stale(Retryable):
    """What was decided on has changed meanwhile."""


class ProviderChanged(Stale):
    """The Provider, or the space it has, is no longer what was decided on."""


class MemoryChanged(Stale):
    """Another version of the memory was stored while this one was being prepared."""


class SpaceVanished(Stale):
    """A space was discarded while it was being worked on."""


class LeaseLost(Stale):
    """Other workers have claimed ranges that had expired here."""

    def __init__(self, lost: Collection[int]) -> None:
        super().__init__(f"{len(lost)} ranges are walked by another worker now")
        self.lost = frozenset(lost)
        """Ids of the leases."""


class Permanent(MemoryOperatorError):
    """The same call fails again until something is changed."""


class InvalidInput(Permanent):
    """The input cannot be used."""


class NotFound(Permanent):
    """There is no such thing."""


class Conflict(Permanent):
    """The request does not fit the present state."""

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "conflict",
        hint: str = "",
        extra: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.extra = extra or {}
        """Further members of the problem document, such as the figures behind a refusal."""


class CredentialRefused(Permanent):
    """The embedding vendor does not accept the credential."""


class RequestRejected(Permanent):
    """The embedding vendor refuses the request."""

    def __init__(self, message: str = "", *, hint: str = "", about_the_texts: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.about_the_texts = about_the_texts
        """Whether another batch may pass (400, 413, 422); false where every batch fails (404, a redirect)."""


class ModelGone(RequestRejected):
    """The embedding vendor says that it has no such model."""


class BadReply(Permanent):
    """The embedding vendor's reply cannot be used."""

    def __init__(self, message: str = "", *, hint: str = "", actual_dimensions: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.actual_dimensions = actual_dimensions
        """Length of the vectors that came back, where that is what was wrong."""


class SecretMissing(Permanent):
    """The Secret, or the key in it, does not exist."""


class CredentialChangedWhileHeld(SecretMissing):
    """The Secret holds another key than the one that worked with this vendor, and the Provider names another vendor."""


class NotPermitted(Permanent):
    """The database user may not do this."""


class UnsupportedType(Permanent):
    """No embedder is built for this Provider type."""


class ConfigurationError(Permanent):
    """The process cannot start as it is configured."""


class NeedsConsent(MemoryOperatorError):
    """A change would discard vectors and waits for one-shot consent."""
