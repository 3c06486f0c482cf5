"""A configuration file of Memory Layer as a source of Providers, and of which of them is active.

FILE.toml    [embeddings]: each backend is a Provider of namespace default
FILE.env     the variables that api_key_env names, where the process's own environment has none of that name
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from memory_operator.contract.memory_layer import Backend, BrokenConfigError, MemoryLayerConfig, parse_config
from memory_operator.contract.provider import KIND
from memory_operator.contract.resource import ProviderRef
from memory_operator.dev.config.rewrite import ConfigFile
from memory_operator.dev.config.variables import parse_variables
from memory_operator.dev.manifests.parse import BrokenManifest, Document, ParsedFile
from memory_operator.dev.manifests.scan import SYSTEM_CLOCK, Clock, Key, Reading
from memory_operator.dev.manifests.source import FolderSource
from memory_operator.engine.ports.selection import Selection
from memory_operator.errors import ConfigurationError, SecretMissing

NAMESPACE = "default"
_SELECTION = Key("Selection", NAMESPACE, "")
_WITHHELD = frozenset({"MEMORY_DATABASE_URL", "MEMORY_TOKEN"})
"""Variables that are ours, and no vendor's key."""


class ConfigSource(FolderSource):
    """The ProviderSource of a configuration file, its SecretReader and its SelectionFile. For any thread and loop."""

    def __init__(
        self,
        config: Path,
        *,
        environment: Mapping[str, str],
        state: Path | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        variables = config.with_suffix(".env")
        super().__init__(config.parent, state=state, clock=clock, reading=_reading(config, variables))
        self.place = self._config = config
        self._variables = variables
        self._environment = environment
        self._file = ConfigFile(config)
        self.name = config.name
        self.waits: str | None = None
        self.locked = self._file.locked

    def check(self) -> None:
        """Raise ConfigurationError for a file that is not there, or cannot be used and nothing of it is in force yet.

        While it is mended, what is in force is served.
        """
        try:
            _parsed_config(self._config.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise ConfigurationError(
                f"{self._config} cannot be read: {error.strerror}", hint="name Memory Layer's file with --config"
            ) from error
        except (BrokenManifest, UnicodeDecodeError) as error:
            if all(each.file != self._config.name for each in self._identities.known.values()):
                why = f":{error.line}: {error.reason}" if isinstance(error, BrokenManifest) else " is not UTF-8 text"
                raise ConfigurationError(f"{self._config}{why}", hint="mend it, then start again") from None

    async def read_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """A variable, under its own name. Raises SecretMissing, SourceUnavailable."""
        if name in _WITHHELD:
            raise SecretMissing(f"{name} is for no vendor", hint="name the variable that holds the vendor's key")
        value = self._environment.get(name, "").strip()
        if value:
            return {name: value}
        try:
            values = await super().read_secret(namespace, name)
        except SecretMissing:
            values = {}
        if not values.get(name, "").strip():
            raise SecretMissing(
                f"{name} is set neither in {self._variables} nor in the environment of this process",
                hint=f"add the line {name}=… to {self._variables}; it is read without a restart",
            )
        return values

    async def selection(self) -> Selection | None:
        """What the file says of the active backend, as it is now. Raises SourceUnavailable."""
        look = await self._settled(lambda look: not look.unsettled)
        found = look.objects.get(_SELECTION)
        if found is None:
            return None
        said = found.document.manifest
        return Selection(said["enabled"], ProviderRef(NAMESPACE, said["active"]) if said["active"] else None)

    async def select(self, provider: ProviderRef | None) -> None:
        """Write which backend is active; None: semantic search is off. Raises Conflict (config_not_written)."""
        await asyncio.to_thread(self._file.select, None if provider is None else provider.name)

    async def set_create_enabled(self, provider: ProviderRef, *, enabled: bool) -> None:
        """Write whether new memories are embedded for a backend. Raises Conflict (config_not_written)."""
        await asyncio.to_thread(self._file.set_create_enabled, provider.name, enabled=enabled)


def _reading(config: Path, variables: Path) -> Reading:
    def names(folder: Path) -> list[str]:
        os.stat(folder / config.name)  # a file that is gone is no file without backends
        return [config.name, variables.name]

    def parse(name: str, text: str) -> ParsedFile:
        return _parsed_variables(text) if name == variables.name else _parsed_config(text)

    return Reading(names, parse)


def _parsed_config(text: str) -> ParsedFile:
    try:
        config = parse_config(text)
    except BrokenConfigError as broken:
        raise BrokenManifest(broken.line, broken.reason) from None
    documents = (_selection(config), *(_provider(backend) for backend in config.backends))
    return ParsedFile(documents, warnings=config.warnings)


def _selection(config: MemoryLayerConfig) -> Document:
    said = {"enabled": config.enabled, "active": config.active.provider if config.active else None}
    return Document(_SELECTION.kind, NAMESPACE, _SELECTION.name, 1, said)


def _provider(backend: Backend) -> Document:
    manifest = backend.manifest(NAMESPACE, backend.api_key_env)
    return Document(KIND, NAMESPACE, backend.provider, backend.line, manifest, lines=backend.lines)


def _parsed_variables(text: str) -> ParsedFile:
    found, unreadable = parse_variables(text)
    documents = tuple(
        Document("Secret", NAMESPACE, name, line, {"metadata": {"name": name}}, secret={name: value})
        for name, (line, value) in found.items()
    )
    return ParsedFile(documents, warnings=tuple((line, "is not NAME=value and is ignored") for line in unreadable))
