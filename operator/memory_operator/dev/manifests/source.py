"""A folder of manifests in place of an API server: a saved file is `kubectl apply`, a file gone is `kubectl delete`.

STATE/providers-state.json          uid, generation and last good manifest of each Provider
STATE/status/NAMESPACE.NAME.json    what `kubectl get -o json` would show, for people to `cat`
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memory_operator.backoff import wait_for_event
from memory_operator.contract.provider import GROUP, KIND, VERSION
from memory_operator.contract.resource import ProviderObject, ProviderRef, parse_provider
from memory_operator.contract.status import ProviderStatus
from memory_operator.contract.warnings import warnings_for
from memory_operator.dev.folder import write_private
from memory_operator.dev.manifests.identities import Identities, ManifestIdentity
from memory_operator.dev.manifests.scan import (
    MANIFESTS,
    SYSTEM_CLOCK,
    Clock,
    FolderScan,
    FoundManifest,
    Key,
    Look,
    Reading,
)
from memory_operator.engine.ports.secrets import usable_values
from memory_operator.engine.ports.sources import Listing, ProviderEvent
from memory_operator.errors import SecretMissing, SourceUnavailable
from memory_operator.logs import get_logger

log = get_logger(__name__)

POLL_SECONDS = 0.2
"""Between two looks. Looking works on every file system; notifications do not."""
LOOK_SECONDS = 10.0
SETTLE_LIMIT_SECONDS = 5.0
"""How long a reader waits for files that are being changed."""


class FolderSource:
    """The ProviderSource of a folder, and its SecretReader. For any thread and any event loop.

    `state` is the folder that remembers; without it nothing is written, and uids are good for this process only.
    """

    def __init__(
        self,
        folder: Path,
        *,
        state: Path | None = None,
        clock: Clock = SYSTEM_CLOCK,
        reading: Reading = MANIFESTS,
    ) -> None:
        self.place = folder
        """What a person edits."""
        self._folder = folder
        self._state = state
        self._clock = clock
        self._lock = threading.Lock()
        self._identities = Identities(None if state is None else state / "providers-state.json")
        known = self._identities.known
        in_force = {Key(KIND, ref.namespace, ref.name): identity.found(ref) for ref, identity in known.items()}
        self._scan = FolderScan(folder, in_force, clock, reading)
        self._providers: dict[ProviderRef, ProviderObject] = {}
        self._secrets: dict[Key, Mapping[str, str]] = {}
        self._changed: set[ProviderRef] = set()
        self._deleted = False
        self._written: dict[ProviderRef, str] = {}

    def serves(self, _namespace: str) -> bool:
        """Whether Providers of a namespace are ours to act on: whoever writes the folder owns the machine."""
        return True

    async def get(self, ref: ProviderRef) -> ProviderObject | None:
        """One Provider, as its file is now; None when it does not exist. Raises SourceUnavailable."""
        key = Key(KIND, *ref)
        await self._settled(lambda look: not look.unsettled and key not in look.missing)
        return self._providers.get(ref)

    async def list(self) -> Listing:
        """All Providers of the folder. Raises SourceUnavailable, also while a file is being written."""
        await self._settled(lambda look: not look.unsettled)
        return Listing(list(self._providers.values()))

    async def read_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """Decoded values of a Secret in the folder. Raises SecretMissing, SourceUnavailable."""
        look = await self._settled(lambda look: not look.unsettled)
        found = look.objects.get(Key("Secret", namespace, name))
        if found is not None:
            manifest = found.document.manifest
            labels = manifest["metadata"].get("labels")
            kind = str(manifest.get("type") or "")
            return usable_values(
                namespace, name, kind, labels if isinstance(labels, dict) else {}, found.document.secret
            )
        if look.broken:
            raise SourceUnavailable(
                f"Secret {namespace}/{name} may be in a file that cannot be used: {', '.join(look.broken)}",
                hint=f"repair that file in {self._folder}",
            )
        raise SecretMissing(f"Secret {namespace}/{name} does not exist", hint=f"put its manifest into {self._folder}")

    async def publish(
        self, ref: ProviderRef, uid: str, status: ProviderStatus, events: Sequence[ProviderEvent]
    ) -> float | None:
        """Write the status, if it differs, and log the events. Raises SourceUnavailable.

        A Provider that is gone, or another one of the same name, is left alone.
        """
        if await asyncio.to_thread(self._write_status, ref, uid, status):
            for event in events:
                report = log.info if event.type == "Normal" else log.warning
                report("%s: %s: %s", ref, event.reason, event.message, extra={"provider": str(ref)})
        return None

    async def watch(
        self, on_change: Callable[[ProviderRef], None], on_delete: Callable[[], None], stop: asyncio.Event
    ) -> None:
        """Report each Provider that is new or changed, and that some are gone, until `stop` is set.

        Both callables are called on this event loop and must not block. A change of a Secret counts as a change of
        every Provider in its namespace.
        """
        readable = True
        while not stop.is_set():
            try:
                await self._look()
            except SourceUnavailable as error:
                if readable:
                    log.error("Providers unavailable, retrying in %g s: %s", POLL_SECONDS, error)  # noqa: TRY400 - no bug of ours
                readable = False
            else:
                if not readable:
                    log.info("Providers readable again: %s", self._folder)
                readable = True
            changed, deleted = self._drain()
            for ref in changed:
                on_change(ref)
            if deleted:
                on_delete()
            await wait_for_event(stop, POLL_SECONDS)

    async def _settled(self, enough: Callable[[Look], bool]) -> Look:
        """Look until no file that matters is being changed."""
        try:
            async with asyncio.timeout(SETTLE_LIMIT_SECONDS + LOOK_SECONDS):
                deadline = asyncio.get_running_loop().time() + SETTLE_LIMIT_SECONDS
                while not enough(look := await self._look()):
                    if asyncio.get_running_loop().time() > deadline:
                        raise SourceUnavailable(f"files in {self._folder} are being changed all the time")
                    await asyncio.sleep(POLL_SECONDS / 4)
                return look
        except TimeoutError as error:
            raise self._slow() from error

    async def _look(self) -> Look:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await asyncio.to_thread(self._look_now)
        except TimeoutError as error:
            raise self._slow() from error

    def _slow(self) -> SourceUnavailable:
        return SourceUnavailable(f"{self._folder} does not answer in time", hint="is its file system there?")

    def _look_now(self) -> Look:
        """One look, recorded. Runs in a thread; the lock gives up, so that a dead file system costs few of them."""
        if not self._lock.acquire(timeout=LOOK_SECONDS):
            raise self._slow()
        try:
            look = self._scan.look()
            now = datetime.fromtimestamp(self._clock.wall(), UTC)
            found = {
                ProviderRef(key.namespace, key.name): each for key, each in look.objects.items() if key.kind == KIND
            }
            before = self._identities.known
            changed = self._identities.settle(found.values(), now)
            for ref in sorted(changed & found.keys()):
                self._warn(ref, before.get(ref))
            for ref in changed - found.keys():
                self._forget(ref)
                self._deleted = True
            # Replaced, never changed: another thread may be reading it.
            self._providers = {ref: self._object(ref, each, changed) for ref, each in found.items()}
            self._changed = {ref for ref in self._changed | changed if ref in found}
            self._notice_secrets(look)
            return look
        finally:
            self._lock.release()

    def _object(self, ref: ProviderRef, found: FoundManifest, changed: Collection[ProviderRef]) -> ProviderObject:
        known = self._providers.get(ref)
        if known is not None and ref not in changed and not known.problems:
            return known
        identity = self._identities.known[ref]
        parsed = parse_provider(identity.shown)
        return replace(parsed, problems=tuple(_with_line(problem, found) for problem in parsed.problems))

    def _warn(self, ref: ProviderRef, before: ManifestIdentity | None) -> None:
        """Say what `kubectl apply` would have been told of a new manifest."""
        old = None if before is None else {**before.shown, "status": self._last_status(ref)}
        for warning in warnings_for(old, self._identities.known[ref].manifest, in_pod=False):
            log.warning("%s: %s", ref, warning, extra={"provider": str(ref)})

    def _last_status(self, ref: ProviderRef) -> Any:
        """The status that was written last, also by the process before; None where there is none."""
        try:
            text = self._written.get(ref) or (self._status_file(self._state, ref).read_text() if self._state else "{}")
            return json.loads(text).get("status")
        except (OSError, ValueError, AttributeError):
            return None

    def _notice_secrets(self, look: Look) -> None:
        secrets = {key: each.document.secret for key, each in look.objects.items() if key.kind == "Secret"}
        touched = {
            key.namespace for key in secrets.keys() | self._secrets.keys() if secrets.get(key) != self._secrets.get(key)
        }
        self._changed |= {ref for ref in self._providers if ref.namespace in touched}
        self._secrets = secrets

    def _drain(self) -> tuple[Sequence[ProviderRef], bool]:
        """What changed since the last call; nothing while another thread looks, since the loop must not wait."""
        if not self._lock.acquire(blocking=False):
            return (), False
        try:
            changed, deleted = sorted(self._changed), self._deleted
            self._changed, self._deleted = set(), False
        finally:
            self._lock.release()
        return changed, deleted

    def _forget(self, ref: ProviderRef) -> None:
        self._written.pop(ref, None)
        if self._state is not None:
            self._status_file(self._state, ref).unlink(missing_ok=True)

    def _write_status(self, ref: ProviderRef, uid: str, status: ProviderStatus) -> bool:
        """Write the status, if it differs; False when this Provider is gone."""
        if not self._lock.acquire(timeout=LOOK_SECONDS):
            raise self._slow()
        try:
            identity = self._identities.known.get(ref)
            if identity is None or identity.uid != uid:
                return False
            text = json.dumps(_shown(ref, identity, status), indent=2)
            if self._state is not None and self._written.get(ref) != text:
                path = self._status_file(self._state, ref)
                path.parent.mkdir(mode=0o700, exist_ok=True)
                write_private(path, text + "\n")
                self._written[ref] = text
        except OSError as error:
            raise SourceUnavailable(f"the status of {ref} cannot be written: {error.strerror}") from error
        else:
            return True
        finally:
            self._lock.release()

    @staticmethod
    def _status_file(state: Path, ref: ProviderRef) -> Path:
        return state / "status" / f"{ref.namespace}.{ref.name}.json"


def _shown(ref: ProviderRef, identity: ManifestIdentity, status: ProviderStatus) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"namespace": ref.namespace, "name": ref.name, **identity.of_server},
        "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def _with_line(problem: str, found: FoundManifest) -> str:
    path = problem.partition(": ")[0]
    line = found.document.line_of(path)
    where = found.file if line is None else f"{found.file}:{line}"
    return f"{problem} ({where})"
