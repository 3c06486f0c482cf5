"""Activation by annotation: `kubectl annotate provider NAME memory-operator/activate=VALUE` acts once a value."""

from __future__ import annotations

from memory_operator.contract.resource import ACTIVATE_ANNOTATION, ACTIVATED_BY_ANNOTATION, ProviderObject
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.engine.ports.activation import ActivationGuard
from memory_operator.errors import Permanent
from memory_operator.logs import get_logger
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Store
from memory_operator.store.spaces import activation_requests, registry
from memory_operator.store.spaces.activation_requests import ActivationRequest

log = get_logger(__name__)

_LONGEST = 253
"""Characters of a value, or of a user's name, that are kept."""


class AnnotatedActivations:
    """Activates the space of a Provider whose annotation has another value than before. One for each event loop.

    Whoever may edit a Provider could set it: a policy of the API server asks who may activate, and where there is none
    nothing is activated.
    """

    def __init__(self, store: Store, catalog: Catalog, guard: ActivationGuard) -> None:
        self._store = store
        self._catalog = catalog
        self._guard = guard

    async def follow(self, provider: ProviderObject) -> None:
        """Act on the annotation where its value changed, and say what became of it.

        A process that dies in between acts again: to activate what is active changes nothing.
        """
        value = _kept(provider.annotations.get(ACTIVATE_ANNOTATION, ""))
        async with self._store.transaction() as conn:
            if not await activation_requests.begin(conn, provider.ref, provider.uid, value):
                return
        by = _kept(provider.annotations.get(ACTIVATED_BY_ANNOTATION, "")) or "kubectl"
        done = await self._done(provider, ActivationRequest(provider.uid, value, "begun", by=by))
        async with self._store.transaction() as conn:
            await activation_requests.note(conn, provider.ref, done)
            await registry.announce(conn)  # its status says so
        log.info("%s: activation by annotation is %s: %s", provider.ref, done.result, done.message)

    async def _done(self, provider: ProviderObject, request: ActivationRequest) -> ActivationRequest:
        unguarded = await self._guard()
        if unguarded is not None:
            return _ended(request, "refused", f"nobody asks who may activate: {unguarded}")
        by = Actor(request.by, f"annotation {ACTIVATE_ANNOTATION}")
        try:
            view = await self._catalog.activate(None, str(provider.ref), by)
        except Permanent as error:
            return _ended(request, "refused", f"{error.message}; {error.hint}".rstrip("; "))
        return _ended(request, "done", f"queries read {view.space.embedding_version}")


def _ended(request: ActivationRequest, result: str, message: str) -> ActivationRequest:
    return ActivationRequest(request.uid, request.value, result, message, request.by)  # type: ignore[arg-type]


def _kept(text: str) -> str:
    """What may stand in a status or a log of a text that anybody wrote."""
    return "".join(character for character in text.strip() if character.isprintable())[:_LONGEST]
