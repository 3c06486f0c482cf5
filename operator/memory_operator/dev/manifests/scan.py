"""Looking at a folder of manifests: which objects it defines now, and what in it cannot be used.

Three things must not be mistaken for a deletion or an edit: a file that an editor is replacing (it is gone for a
moment), a file that is being written (it is cut off for a moment), and a file that cannot be read.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from memory_operator.dev.manifests.parse import BrokenManifest, Document, ParsedFile, parse_manifests
from memory_operator.errors import SourceUnavailable
from memory_operator.logs import get_logger

log = get_logger(__name__)

ABSENCE_SECONDS = 1.0
"""How long an object must be gone before it counts as deleted."""
SETTLE_SECONDS = 0.2
"""How long a file must stay as it is before it is read."""
MAX_FILE_BYTES = 1024 * 1024
SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Clock:
    """The time, as far as a folder's files are judged by it."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    """To be compared with the times of files."""


SYSTEM_CLOCK = Clock()


class Key(NamedTuple):
    """Identity of an object in the folder."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """An object and the file that defines it."""

    file: str
    document: Document

    @property
    def key(self) -> Key:
        """The object's identity."""
        return Key(self.document.kind, self.document.namespace, self.document.name)


@dataclass(frozen=True, slots=True)
class Reading:
    """Which files of a folder count, and what one holds."""

    names: Callable[[Path], Iterable[str]]
    """Blocks on the disk. Raises OSError; then nothing counts as absent."""
    parse: Callable[[str, str], ParsedFile]
    """From a file's name and text. Raises BrokenManifest."""


class _Signature(NamedTuple):
    """A file is unchanged while all of these are."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    """Also moves when somebody sets the time of modification back, as `cp -p` does, or the mode."""


@dataclass(slots=True)
class _File:
    """What is known of one file."""

    signature: _Signature
    since: float
    """When the signature was first seen, on the monotonic clock."""
    parsed: ParsedFile | None = None
    """None while the file is not read yet, or broken."""
    problem: str = ""
    unreadable: bool = False
    """The problem is with reading, not with what was read: it is tried again at each look."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the folder found."""

    objects: dict[Key, FoundManifest]
    """Everything in force: as defined now, or as it was where a file is broken or just gone."""
    missing: frozenset[Key] = frozenset()
    """Objects in force that no file defines at the moment; they count as deleted when they stay away."""
    broken: tuple[str, ...] = ()
    """Names of the files that cannot be used."""
    unsettled: bool = False
    """A file was changed just now and is not read yet."""


@dataclass(slots=True)
class FolderScan:
    """A folder and its state between looks. Not for two threads at once; all calls block on the disk."""

    folder: Path
    objects: dict[Key, FoundManifest]
    """What was in force before the first look."""
    clock: Clock = SYSTEM_CLOCK
    reading: Reading = field(default_factory=lambda: MANIFESTS)
    _files: dict[str, _File] = field(default_factory=dict)
    _absent_since: dict[Key, float] = field(default_factory=dict)
    _told: frozenset[str] = frozenset()

    def look(self) -> Look:
        """Look once. Raises SourceUnavailable when the folder cannot be read; nothing counts as absent then."""
        now = self.clock.monotonic()
        try:
            names = sorted(self.reading.names(self.folder))
        except OSError as error:
            raise SourceUnavailable(
                f"Providers cannot be read: {error.strerror}: {error.filename or self.folder}",
                hint="everything stays as it is until they can be read again",
            ) from error
        present = [name for name in names if self._read(name, now)]
        self._files = {name: self._files[name] for name in present}
        defined, duplicates = self._defined()
        self._forget_absent(defined, now)
        broken = {name: file.problem for name, file in self._files.items() if file.problem}
        ignored = [
            f"{name}:{line}: {text}"
            for name, file in self._files.items()
            for line, text in (file.parsed.warnings if file.parsed else ())
        ]
        self._tell(broken.values(), duplicates, ignored)
        return Look(
            objects=dict(self.objects),
            missing=frozenset(self._absent_since),
            broken=tuple(broken),
            unsettled=any(file.parsed is None and not file.problem for file in self._files.values()),
        )

    def _read(self, name: str, now: float) -> bool:
        """Read a file when it is new or changed, and has settled. False when there is no such file."""
        path = self.folder / name
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            self._files[name] = _File(
                _Signature(0, 0, 0, 0), now, problem=f"{name}: cannot be read: {error.strerror}", unreadable=True
            )
            return True
        if not stat.S_ISREG(status.st_mode):
            return False
        signature = _signature(status)
        file = self._files.get(name)
        if file is None or file.signature != signature:
            file = self._files[name] = _File(signature, now)
        if file.parsed is None and (file.unreadable or not file.problem) and self._has_settled(file, now):
            self._parse(path, file)
        return True

    def _has_settled(self, file: _File, now: float) -> bool:
        """Whether nobody has written for a while: by our own observation, or by the file's time."""
        age = self.clock.wall() - file.signature.changed_ns / 1e9
        return now - file.since >= SETTLE_SECONDS or age >= SETTLE_SECONDS

    def _parse(self, path: Path, file: _File) -> None:
        try:
            with path.open("rb") as opened:
                content = opened.read(MAX_FILE_BYTES + 1)
                if _signature(os.fstat(opened.fileno())) != file.signature:
                    return  # it was replaced meanwhile; the next look sees that
        except OSError as error:
            file.problem, file.unreadable = f"{path.name}: cannot be read: {error.strerror}", True
            return
        file.problem, file.unreadable = "", False
        try:
            file.parsed = self.reading.parse(path.name, _text(content))
        except BrokenManifest as broken:
            file.problem = f"{path.name}:{broken.line}: {broken.reason}"
        else:
            if file.parsed.unused:
                log.info("%s: ignored kinds: %s", path, ", ".join(file.parsed.unused))

    def _defined(self) -> tuple[dict[Key, FoundManifest], list[str]]:
        """What the files define, the first by name winning; a file without a good version defines what it did."""
        defined: dict[Key, FoundManifest] = {}
        duplicates = []
        for name, file in self._files.items():
            for found in self._of_file(name, file):
                first = defined.setdefault(found.key, found)
                if first is not found:
                    duplicates.append(
                        f"{name}:{found.document.line}: {found.key.kind} {found.key.namespace}/{found.key.name}"
                        f" is defined in {first.file}:{first.document.line} already; that one counts"
                    )
        return defined, duplicates

    def _of_file(self, name: str, file: _File) -> Iterable[FoundManifest]:
        if file.parsed is not None:
            return [FoundManifest(name, document) for document in file.parsed.documents]
        return [found for found in self.objects.values() if found.file == name]

    def _forget_absent(self, defined: dict[Key, FoundManifest], now: float) -> None:
        since = {key: self._absent_since.get(key, now) for key in self.objects if key not in defined}
        self._absent_since = {key: first for key, first in since.items() if now - first < ABSENCE_SECONDS}
        waiting = {key: self.objects[key] for key in self._absent_since}
        self.objects = {**defined, **waiting}

    def _tell(self, broken: Iterable[str], duplicates: Iterable[str], ignored: Iterable[str]) -> None:
        """Log each report once, for as long as it lasts."""
        now = frozenset((*broken, *duplicates, *ignored))
        for report in broken:
            if report not in self._told:
                log.error("%s/%s (its last good version stays in force)", self.folder, report)
        for report in duplicates:
            if report not in self._told:
                log.error("%s/%s", self.folder, report)
        for report in ignored:
            if report not in self._told:
                log.warning("%s/%s", self.folder, report)
        self._told = now


def _text(content: bytes) -> str:
    if len(content) > MAX_FILE_BYTES:
        raise BrokenManifest(1, f"is longer than {MAX_FILE_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BrokenManifest(line, "is not UTF-8 text") from None


def is_manifest(name: str) -> bool:
    """Whether a file of this name is read."""
    # Editors keep their own files beside ours: .x.yaml.swp, .#x.yaml, x.yaml~, #x.yaml#.
    return name.endswith(SUFFIXES) and not name.startswith((".", "#"))


MANIFESTS: Reading = Reading(
    names=lambda folder: filter(is_manifest, os.listdir(folder)),
    parse=lambda name, text: parse_manifests(text, is_json=name.endswith(".json")),
)
"""Files in YAML and JSON."""


def _signature(status: os.stat_result) -> _Signature:
    return _Signature(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
