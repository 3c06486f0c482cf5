"""The operator's loop: triggers that enqueue names, reconciles that act on them, a listing that notices absence."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

from memory_operator.backoff import wait_for_event
from memory_operator.contract.resource import ProviderObject, ProviderRef
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.gate.declared import is_ours
from memory_operator.engine.gate.listings import Listings
from memory_operator.engine.gate.orphans import Absences
from memory_operator.engine.gate.probes import AT_ONCE, Probes, Unprobed
from memory_operator.engine.gate.reconciler import Reconciler
from memory_operator.engine.gate.reporter import Reporter
from memory_operator.engine.gate.workqueue import ReconcileQueue
from memory_operator.engine.ports.activation import ActivationRequests
from memory_operator.engine.ports.sources import Listing, ProviderSource
from memory_operator.errors import NeedsConsent, Retryable
from memory_operator.logs import get_logger
from memory_operator.plan.consent import MarkerState
from memory_operator.settings import EngineSettings
from memory_operator.store.db.listen import listen
from memory_operator.store.db.pool import Store
from memory_operator.store.spaces import claims, consent, providers, registry
from memory_operator.store.spaces.identities import settle_identities

log = get_logger(__name__)

WORKERS = 4
"""Providers reconciled at a time."""

_REFRESH_SECONDS = 10.0
_REFRESH_PAUSE_SECONDS = 0.2
"""Between two status refreshes, however often the spaces change."""
_LOOK_SECONDS = 300.0
"""After how long a Provider is looked at again that nothing has changed of."""
_RETRY_SECONDS = 2.0
_FIRST_LISTINGS = 3
"""Tries of the first listing after which a namespace that cannot be listed is not waited for any longer."""


class Operator:
    """Everything that the operator does, whatever Providers come from. It lives on one event loop."""

    def __init__(
        self,
        store: Store,
        source: ProviderSource,
        connector: Connector,
        settings: EngineSettings,
        requests: ActivationRequests | None = None,
    ) -> None:
        """Without `requests` no annotation activates anything."""
        self._store = store
        self._source = source
        self._settings = settings
        self._queue = ReconcileQueue()
        self._report = Reporter(store, source, in_pod=settings.in_pod)
        self._probes = Probes(store, connector, self._probed)
        self._reconciler = Reconciler(store, source, connector, self._report, self._probes, requests)
        self._absences = Absences(store, source)
        self._listings = Listings(store.metrics)
        self._markers: list[tuple[int, MarkerState]] = []
        self._list_now = asyncio.Event()
        self._refresh_now = asyncio.Event()
        self._settled: dict[ProviderRef, tuple[ProviderObject, float]] = {}
        self._listed: dict[ProviderRef, ProviderObject] = {}
        self._waiting_for_probe: dict[ProviderRef, asyncio.Event] = {}
        self._unconsented = asyncio.Event()
        self._one_by_one = asyncio.Lock()
        self._had_active = False
        self._started = False

    def enqueue(self, ref: ProviderRef) -> None:
        """Ask for a reconcile of one Provider. Never blocks."""
        self._queue.enqueue(ref)

    def listed_again(self) -> None:
        """Ask for a full listing now: something was deleted."""
        self._list_now.set()

    def held_message(self) -> str | None:
        """The text of a held change, for /readyz; None when nothing is held."""
        return self._report.held_message()

    def not_ready(self) -> str | None:
        """Why the operator is not ready: it has not seen its Providers yet or not all of them, or a change is held."""
        started = None if self._started else "memory: the first listing of Providers is not done yet"
        return "\n".join(filter(None, (started, self.held_message(), self._listings.unlisted()))) or None

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set. Raises NeedsConsent where an unconsented change is to end the process."""
        try:
            async with asyncio.TaskGroup() as group:
                lead = group.create_task(self._lead(), name="operator")
                await stop.wait()
                lead.cancel()
        except* NeedsConsent as found:
            refused = found.exceptions[0]
        else:
            return
        while isinstance(refused, BaseExceptionGroup):
            refused = refused.exceptions[0]
        raise refused

    async def _lead(self) -> None:
        """The first listing, then every trigger at once."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._end_if_unconsented(), name="unconsented changes")
            await self._first_pass()
            self._started = True
            for number in range(WORKERS):
                group.create_task(self._queue.work(self._handle), name=f"reconciler {number}")
            for number in range(AT_ONCE):
                group.create_task(self._probes.work(consented=False), name=f"probe {number}")
                group.create_task(self._probes.work(consented=True), name=f"probe of a consented change {number}")
            group.create_task(self._keep_listing(), name="listing")
            group.create_task(self._keep_listening(), name="consent listener")
            group.create_task(self._keep_polling(), name="consent poll")
            group.create_task(self._keep_refreshing(), name="status refresh")

    async def _first_pass(self) -> None:
        """Record all Providers before any is acted on, so that bare markers and first spaces are judged rightly.

        A namespace that still cannot be listed after some tries is not waited for: the others have their Providers.
        """
        for attempt in itertools.count(1):
            try:
                listing = await self._list_and_enqueue()
            except (Retryable, OSError) as error:
                log.warning("Providers cannot be listed yet: %s", error)
            else:
                if not listing.failures or (listing.namespaces and attempt >= _FIRST_LISTINGS):
                    return
            await asyncio.sleep(_RETRY_SECONDS)

    async def _list(self) -> Listing:
        """A listing, oldest first; what is absent from it is noted.

        Before, spaces that release 0.1 made get the identity that this release knows them by.
        """
        await settle_identities(self._store)
        began = await self._absences.moment()
        listing = await self._source.list()
        self._listings.note(listing, self._settings.listing_seconds)
        listed = sorted(listing.providers, key=lambda provider: (provider.created_at, provider.ref))
        for provider in listed:
            if provider != self._listed.get(provider.ref):
                await self._reconciler.observe(provider)
        unlisted = {ref: known for ref, known in self._listed.items() if ref.namespace in listing.failures}
        self._listed = unlisted | {provider.ref: provider for provider in listed}
        ours = [provider.ref for provider in listed if is_ours(self._source, provider)]
        gone, doubtful = await self._absences.notice(ours, listing.failures, began)
        for ref in gone:
            self._report.forget(ref)
            self._probes.forget(ref)
            self._reconciler.duplicates.discard(ref)
            self._settled.pop(ref, None)
        if doubtful:
            self.listed_again()
        return replace(listing, providers=listed)

    async def _handle(self, ref: ProviderRef) -> float | None:
        """One reconcile. Until a store has had an active space they go one by one, so that the oldest gets it."""
        if self._had_active:
            again = await self._reconcile(ref)
        else:
            async with self._one_by_one:
                again = await self._reconcile_to_its_end(ref)
                async with self._store.connection() as conn:
                    self._had_active = (await registry.read(conn)).ever_active
        if self._settings.on_unconsented_change == "Exit" and self.held_message():
            self._unconsented.set()
        return again

    async def _reconcile(self, ref: ProviderRef) -> float | None:
        """One reconcile, which ends early where the embedder is asked first: its answer enqueues the Provider."""
        listed = self._listed.get(ref)
        try:
            again = await self._reconciler.reconcile(ref)
        except Unprobed:
            return None
        if again is None and listed is not None:
            self._settled[ref] = (listed, asyncio.get_running_loop().time())
        return again

    async def _reconcile_to_its_end(self, ref: ProviderRef) -> float | None:
        """One reconcile, with the answer of the embedder waited for where it is asked first."""
        answered = self._waiting_for_probe[ref] = asyncio.Event()
        try:
            while True:
                answered.clear()
                try:
                    return await self._reconciler.reconcile(ref)
                except Unprobed:
                    await answered.wait()
        finally:
            del self._waiting_for_probe[ref]

    def _probed(self, ref: ProviderRef) -> None:
        """An embedder has answered: go on with its Provider."""
        if ref in self._waiting_for_probe:
            self._waiting_for_probe[ref].set()
        else:
            self._queue.enqueue(ref, first=True)

    async def _end_if_unconsented(self) -> None:
        await self._unconsented.wait()
        raise NeedsConsent(self.held_message() or "")

    async def _keep_listing(self) -> None:
        while True:
            await wait_for_event(self._list_now, self._settings.listing_seconds)
            self._list_now.clear()
            await self._guarded("listing", self._list_and_enqueue)

    async def _list_and_enqueue(self) -> Listing:
        """List all Providers, and reconcile those that changed, that are not settled, or that were not for long.

        In the first listing the oldest comes first; later the ones that did not change wait for all that did.
        """
        before = self._listed
        listing = await self._list()
        for provider in listing.providers:
            if is_ours(self._source, provider) and self._is_due(provider):
                self._queue.enqueue(provider.ref, idle=provider == before.get(provider.ref))
        await self._enqueue_claimants()
        return listing

    def _is_due(self, provider: ProviderObject) -> bool:
        seen, at = self._settled.get(provider.ref, (None, 0.0))
        return provider != seen or asyncio.get_running_loop().time() - at > _LOOK_SECONDS

    async def _enqueue_claimants(self) -> None:
        """Reconcile the Providers that ask for a space which no live Provider has any more."""
        async with self._store.connection() as conn:
            waiting = await claims.claimants(conn)
            waiting += await claims.free_to_make(conn, self._reconciler.duplicates)
        for ref in waiting:
            self.enqueue(ref)

    async def _spaces_changed(self) -> None:
        self._refresh_now.set()
        await self._enqueue_claimants()

    async def _keep_listening(self) -> None:
        channels = (consent.CHANNEL, registry.CHANNEL)
        async with aclosing(listen(self._store, "memory-operator-listen", channels)) as heard:
            async for channel in heard:
                step = self._enqueue_held if channel == consent.CHANNEL else self._spaces_changed
                await self._guarded(channel, step)

    async def _keep_polling(self) -> None:
        while True:
            await asyncio.sleep(self._settings.consent_poll_seconds)
            await self._guarded("consent poll", self._poll_consent)

    async def _keep_refreshing(self) -> None:
        while True:
            await wait_for_event(self._refresh_now, _REFRESH_SECONDS)
            self._refresh_now.clear()
            await self._guarded("status refresh", self._report.refresh)
            await asyncio.sleep(_REFRESH_PAUSE_SECONDS)

    async def _poll_consent(self) -> None:
        """Reconcile what is held where a marker, or what became of one, was not heard of."""
        async with self._store.connection() as conn:
            states = [(marker.id, marker.state) for marker in await consent.markers(conn)]
        if states != self._markers:
            self._markers = states
            await self._enqueue_held()

    async def _enqueue_held(self) -> None:
        async with self._store.connection() as conn:
            held = await providers.pending_changes(conn)
        for change in held:
            self._queue.enqueue(change.ref, first=True)

    async def _guarded(self, what: str, step: Callable[[], Awaitable[object]]) -> None:
        """Run one step of a loop that must outlive whatever fails in it."""
        try:
            await step()
        except (Retryable, OSError) as error:
            log.warning("%s is tried again: %s", what, error)
        except Exception:
            log.exception("%s failed", what)
