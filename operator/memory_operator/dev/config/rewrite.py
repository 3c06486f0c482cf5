"""A configuration file as commands change it: one value, with comments, order, mode and owner as they were."""

from __future__ import annotations

import asyncio
import json
import threading
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from memory_operator.contract.memory_layer import BrokenConfigError, MemoryLayerConfig, parse_config
from memory_operator.dev.folder import replace_unchanged
from memory_operator.errors import Conflict, LockBusy

_LOCK_SECONDS = 20.0
_LOCK_POLL_SECONDS = 0.02
_TRIES = 5
_BOM = "\ufeff"

Change = Callable[[Any, MemoryLayerConfig], None]
"""Changes a document, which is made of dicts and lists or of what stands for them, as its file says now."""


class ConfigFile:
    """One file. For any thread and any event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Let nobody else of this process compare or change file and database. Raises LockBusy.

        Polled, as a thread that waits could not be cancelled and would take the lock for nobody.
        """
        deadline = asyncio.get_running_loop().time() + _LOCK_SECONDS
        while not self._lock.acquire(blocking=False):
            if asyncio.get_running_loop().time() > deadline:
                raise LockBusy(f"{self._path.name} is being changed by another command")
            await asyncio.sleep(_LOCK_POLL_SECONDS)
        try:
            yield
        finally:
            self._lock.release()

    def select(self, provider: str | None) -> None:
        """Name the active backend, and turn semantic search on; None turns it off. Raises Conflict."""

        def change(document: Any, config: MemoryLayerConfig) -> None:
            if provider is None:
                if config.enabled:
                    document.setdefault("embeddings", {})["enabled"] = False
                return
            backend = _backend(config, provider)
            if config.active is None or config.active.provider != provider:
                document["embeddings"]["active"] = backend.name
            if not config.enabled:
                document["embeddings"]["enabled"] = True

        self._rewrite(change)

    def set_create_enabled(self, provider: str, *, enabled: bool) -> None:
        """Write whether new memories are embedded for a backend. Raises Conflict."""

        def change(document: Any, config: MemoryLayerConfig) -> None:
            backend = _backend(config, provider)
            if backend.spec["embedding"].get("createEnabled", True) is not enabled:
                table = document
                for step in backend.place:
                    table = table[step]
                table["create_enabled"] = enabled

        self._rewrite(change)

    def _rewrite(self, change: Change) -> None:
        """Change what is there now; what somebody else saves meanwhile is read and changed in turn."""
        try:
            for _ in range(_TRIES):
                path = self._path.resolve(strict=True)
                before = path.read_bytes()
                after = _changed(before, change)
                if after == before or replace_unchanged(path, before, after):
                    return
        except OSError as error:
            raise self._refused(
                f"cannot be written: {error.strerror}", "make it writable, or edit it yourself"
            ) from error
        except (BrokenConfigError, UnicodeDecodeError) as error:
            where = f":{error.line}: {error.reason}" if isinstance(error, BrokenConfigError) else " is not UTF-8 text"
            raise self._refused(f"cannot be used{where}", "mend it first") from None
        except _CannotBeRewrittenError:
            raise self._refused("cannot be rewritten with all else as it is", "edit it yourself") from None
        raise self._refused("is being changed all the time", "try again") from None

    def _refused(self, why: str, hint: str) -> Conflict:
        return Conflict(
            f"{self._path} {why}; nothing was changed",
            code="config_not_written",
            hint=f"{hint}: what it says of [embeddings] is taken within a second",
        )


class _CannotBeRewrittenError(Exception):
    """The file is written in a way that one value cannot be changed in."""


def _backend(config: MemoryLayerConfig, provider: str) -> Any:
    for backend in config.backends:
        if backend.provider == provider:
            return backend
    raise Conflict(
        f"the configuration file has no backend {provider}; nothing was changed",
        code="config_not_written",
        hint="add its block to the file; memory embeddings list shows those that are there",
    )


def _changed(before: bytes, change: Change) -> bytes:
    """The file with a change. Raises BrokenConfigError, _CannotBeRewrittenError."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    text = before.decode()
    plain = text.removeprefix(_BOM)
    config = parse_config(plain)
    wanted = tomllib.loads(plain)
    change(wanted, config)
    try:
        document = tomlkit.parse(plain)
        change(document, config)
        after = tomlkit.dumps(document)
        if _canonical(tomllib.loads(after)) != _canonical(wanted):
            raise _CannotBeRewrittenError
    except (TOMLKitError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise _CannotBeRewrittenError from error
    return (text[: len(text) - len(plain)] + after).encode()


def _canonical(document: dict[str, Any]) -> str:
    """A text that is equal for equal documents, those with a number that is none too."""
    return json.dumps(document, sort_keys=True, default=str)
