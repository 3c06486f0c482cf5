"""Providers of an API server: read live, listed whole, and the one writer of their status."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from kubernetes.aio.client import ApiClient

from memory_operator.backoff import backoff
from memory_operator.contract.provider import GROUP, PLURAL, VERSION
from memory_operator.contract.resource import ProviderObject, ProviderRef, parse_provider
from memory_operator.contract.status import ProviderStatus
from memory_operator.engine.ports.sources import Listing, ProviderEvent
from memory_operator.errors import Conflict, NotFound, SourceUnavailable
from memory_operator.kube.boundary import ApiCall, Expired, Forbidden, Manifest, Refused, ask
from memory_operator.kube.crd_owner import CrdOwner
from memory_operator.kube.events import send_events
from memory_operator.kube.installations import Installation
from memory_operator.kube.status import foreign_annotations, foreign_patch, own_patch, seen_generation
from memory_operator.logs import get_logger

log = get_logger(__name__)

_PAGE = 500
"""Providers in one answer of a list."""
_LIST_ATTEMPTS = 3
_LIST_SECONDS = 60.0
_LISTS_AT_ONCE = 4
_WRITE_ATTEMPTS = 5
_FORBIDDEN_SECONDS = 300.0
"""How long a write that RBAC does not allow is not tried again."""
_WRITE_PAUSE_SECONDS = 0.1
_LAST_WRITE_PAUSE_SECONDS = 0.4


class KubeSource:
    """The ProviderSource of a cluster. For the event loop that its ApiClient belongs to."""

    def __init__(
        self,
        api: ApiClient,
        namespaces: Sequence[str],
        installation: Installation | None = None,
        *,
        page: int = _PAGE,
    ) -> None:
        self._api = api
        self._installation = installation or Installation("default")
        self._left: set[ProviderRef] = set()
        self._namespaces = tuple(dict.fromkeys(namespaces))
        self._page = page
        self._crd = CrdOwner(api)
        self._unannotated: dict[str, float] = {}
        """Until when the annotation is not tried in a namespace."""

    def serves(self, namespace: str, /) -> bool:
        """Whether Providers of a namespace are ours to act on."""
        return namespace in self._namespaces

    async def get(self, ref: ProviderRef) -> ProviderObject | None:
        """One Provider, live; None when it does not exist. Raises SourceUnavailable."""
        manifest = await self._read(ref)
        return None if manifest is None else parse_provider(manifest)

    async def list(self) -> Listing:
        """All Providers of each served namespace, each namespace complete or among the failures."""
        turns = asyncio.Semaphore(_LISTS_AT_ONCE)

        async def one(namespace: str) -> list[Manifest] | SourceUnavailable:
            async with turns:
                return await _listed(self._api, namespace, self._page)

        found = dict(zip(self._namespaces, await asyncio.gather(*map(one, self._namespaces)), strict=True))
        whole = {name: items for name, items in found.items() if isinstance(items, list)}
        return Listing(
            [parse_provider(manifest) for items in whole.values() for manifest in items],
            tuple(whole),
            {name: failure for name, failure in found.items() if isinstance(failure, SourceUnavailable)},
        )

    async def publish(
        self, ref: ProviderRef, uid: str, status: ProviderStatus, events: Sequence[ProviderEvent]
    ) -> float | None:
        """Write the status, if it differs, and send the events. Raises SourceUnavailable.

        A Provider that is gone, or another one of the same name, is left alone; so is what another installation wrote,
        and for how many seconds is returned.
        """
        for attempt in range(_WRITE_ATTEMPTS):
            if attempt:
                await asyncio.sleep(backoff(attempt, _WRITE_PAUSE_SECONDS, _LAST_WRITE_PAUSE_SECONDS, jitter=0.5))
            live = await self._read(ref)
            if live is None or live["metadata"].get("uid") != uid:
                return None
            leaves = await self._leaves(ref, live)
            try:
                if leaves is None:
                    await self._write(ref, live, status)
            except NotFound:
                return None
            except Conflict:
                continue
            if leaves is None or self.serves(ref.namespace):
                await send_events(self._api, ref, uid, events)
            return leaves
        raise SourceUnavailable(
            f"the status of {ref} was changed by others {_WRITE_ATTEMPTS} times while it was written"
        )

    async def _leaves(self, ref: ProviderRef, live: Manifest) -> float | None:
        """For how many seconds the status that another installation wrote is left as it is."""
        served, foreign = self.serves(ref.namespace), await self._crd.get() == "foreign"
        seconds = self._installation.leaves(ref, live, seen_generation(live, foreign=foreign), served=served)
        if seconds is None:
            self._left.discard(ref)
        elif served and ref not in self._left:
            self._left.add(ref)
            log.warning(
                "%s: another installation of memory-operator serves namespace %s too; its status is left standing",
                ref,
                ref.namespace,
                extra={"provider": str(ref)},
            )
        return seconds

    async def _write(self, ref: ProviderRef, live: Manifest, status: ProviderStatus) -> None:
        """Patch what differs. Raises Conflict, NotFound, SourceUnavailable."""
        if await self._crd.get() == "ours":
            await self._patch(ref, live, "status", own_patch(live, status))
            return
        live = await self._patch(ref, live, "status", foreign_patch(live, status))
        await self._annotate(ref, live, foreign_annotations(live, status))

    async def _annotate(self, ref: ProviderRef, live: Manifest, annotations: Manifest) -> None:
        """Patch annotations where that is allowed: the conditions say the same, but for the figures."""
        now = asyncio.get_running_loop().time()
        if not annotations or now < self._unannotated.get(ref.namespace, 0.0):
            return
        try:
            await self._patch(ref, live, None, {"metadata": {"annotations": annotations}})
        except Forbidden as error:
            self._unannotated[ref.namespace] = now + _FORBIDDEN_SECONDS
            log.warning("figures are not annotated, retrying in %g s: %s", _FORBIDDEN_SECONDS, error)

    async def _patch(self, ref: ProviderRef, live: Manifest, subresource: str | None, patch: Manifest) -> Manifest:
        """The object after a merge patch that succeeds only if nobody wrote since it was read."""
        if not patch:
            return live
        call = ApiCall("patch", GROUP, VERSION, PLURAL, ref.namespace, ref.name, subresource)
        metadata = {"uid": live["metadata"]["uid"], "resourceVersion": live["metadata"]["resourceVersion"]}
        body = {"status": patch} if subresource else dict(patch)
        body["metadata"] = {**body.get("metadata", {}), **metadata}
        try:
            answer = await ask(self._api, call, body, query=[("fieldManager", self._installation.manager)])
        except Refused:
            self._crd.forget()  # another CRD than a moment ago would explain it
            raise
        if "embedding" in patch and subresource and "embedding" not in answer.get("status", {}):
            self._crd.forget()
        return answer

    async def _read(self, ref: ProviderRef) -> Manifest | None:
        try:
            return await ask(self._api, ApiCall("get", GROUP, VERSION, PLURAL, ref.namespace, ref.name))
        except NotFound:
            return None


async def _listed(api: ApiClient, namespace: str, page: int) -> list[Manifest] | SourceUnavailable:
    """All Providers of a namespace, or why they could not be listed."""
    try:
        async with asyncio.timeout(_LIST_SECONDS):
            for _ in range(_LIST_ATTEMPTS):
                with suppress(Expired):  # half a list proves nobody's absence: from the start
                    return await _pages(api, namespace, page)
    except TimeoutError:
        return SourceUnavailable(f"listing Providers in {namespace} took longer than {_LIST_SECONDS:g} s")
    except SourceUnavailable as error:
        return error
    return SourceUnavailable(f"the list of Providers in {namespace} expired {_LIST_ATTEMPTS} times before its end")


async def _pages(api: ApiClient, namespace: str, size: int) -> list[Manifest]:
    call = ApiCall("list", GROUP, VERSION, PLURAL, namespace)
    items: list[Manifest] = []
    token = ""
    while True:
        query = [("limit", str(size)), *([("continue", token)] if token else [])]
        page = await ask(api, call, query=query)
        if not isinstance(page.get("items"), list):
            raise SourceUnavailable(f"the API server answered {call} with something else than a list")
        items += page["items"]
        token = page.get("metadata", {}).get("continue") or ""
        if not token:
            return items
