"""What an API server adds to a manifest: uid, generation, time of creation. Kept on disk, since they outlive us.

FOLDER/providers-state.json     one record a Provider, with its last good manifest, mode 0600
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memory_operator.contract.provider import KIND
from memory_operator.contract.resource import ANNOTATION_PREFIX, STATUS_ANNOTATION, ProviderRef
from memory_operator.dev.folder import write_private
from memory_operator.dev.manifests.parse import Document
from memory_operator.dev.manifests.scan import FoundManifest
from memory_operator.errors import ConfigurationError, SourceUnavailable

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ManifestIdentity:
    """One Provider's life, from its first sight to its deletion."""

    uid: str
    generation: int
    """Grows with each change of the spec, and of the annotations that stand in for parts of it."""
    created_at: str
    file: str
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def of_server(self) -> dict[str, Any]:
        """What an API server adds to the metadata."""
        return {"uid": self.uid, "generation": self.generation, "creationTimestamp": self.created_at}

    @property
    def shown(self) -> dict[str, Any]:
        """The manifest as an API server would show it, without its status."""
        return {**self.manifest, "metadata": {**self.manifest["metadata"], **self.of_server}}

    def found(self, ref: ProviderRef) -> FoundManifest:
        """The Provider as it was last seen; without lines, since the file may be another by now."""
        return FoundManifest(self.file, Document(KIND, ref.namespace, ref.name, 1, self.manifest))


class Identities:
    """The identities of a folder's Providers. Without a path they are forgotten with the process."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known = {} if path is None else _load(path)

    @property
    def known(self) -> Mapping[ProviderRef, ManifestIdentity]:
        """All Providers that are in force."""
        return self._known

    def settle(self, providers: Iterable[FoundManifest], now: datetime) -> frozenset[ProviderRef]:
        """Make these the Providers in force, durably, and return those that are new, changed or gone.

        Raises SourceUnavailable when that cannot be recorded; then nothing has changed.
        """
        settled = {}
        changed = set()
        for found in providers:
            ref = ProviderRef(found.document.namespace, found.document.name)
            settled[ref], differs = _next(self._known.get(ref), found, now)
            if differs:
                changed.add(ref)
        changed |= self._known.keys() - settled.keys()
        if settled != self._known:
            self._save(settled)
            self._known = settled
        return frozenset(changed)

    def _save(self, settled: Mapping[ProviderRef, ManifestIdentity]) -> None:
        if self._path is None:
            return
        records = [{"namespace": ref.namespace, "name": ref.name, **asdict(each)} for ref, each in settled.items()]
        try:
            write_private(self._path, json.dumps({"format": _FORMAT, "providers": records}, indent=1))
        except OSError as error:
            raise SourceUnavailable(f"{self._path} cannot be written: {error.strerror}") from error


def _next(known: ManifestIdentity | None, found: FoundManifest, now: datetime) -> tuple[ManifestIdentity, bool]:
    manifest = _kept(found.document.manifest)
    if known is None:
        created_at = now.astimezone(UTC).replace(microsecond=0).isoformat()
        return ManifestIdentity(str(uuid.uuid4()), 1, created_at, found.file, manifest), True
    differs = known.manifest != manifest
    generation = known.generation + 1 if differs else known.generation
    return ManifestIdentity(known.uid, generation, known.created_at, found.file, manifest), differs


def _kept(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a manifest that are its desired state."""
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations")
    ours = {
        key: value
        for key, value in (annotations if isinstance(annotations, Mapping) else {}).items()
        if str(key).startswith(ANNOTATION_PREFIX) and key != STATUS_ANNOTATION
    }
    identity = {"namespace": metadata.get("namespace") or "default", "name": metadata["name"]}
    return {"metadata": {**identity, "annotations": ours}, "spec": manifest.get("spec")}


def _load(path: Path) -> dict[ProviderRef, ManifestIdentity]:
    try:
        content = json.loads(path.read_text())
        if content["format"] != _FORMAT:
            raise ConfigurationError(f"{path} is of another release", hint="run the release that wrote it")
        return {
            ProviderRef(record.pop("namespace"), record.pop("name")): ManifestIdentity(**record)
            for record in content["providers"]
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({type(error).__name__})",
            hint="restore it, or move it away: then all Providers count as new ones of the same names",
        ) from error
