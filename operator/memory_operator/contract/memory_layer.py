"""Memory Layer's TOML: its embedding backends as Providers, each key with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memory_operator.contract.provider import GROUP, KIND, VERSION
from memory_operator.contract.resource import parse_spec

TABLE = "embeddings"
BACKENDS = "backends"
MAX_NAME = 200
"""Names become names of Providers, and of files."""

_TYPES = {"voyage": "voyageai"}
"""Memory Layer's word for a vendor, where ours is another."""
_TEXTS = frozenset(
    {
        "name",
        "provider",
        "base_url",
        "api_key_env",
        "model",
        "query_prefix",
        "document_prefix",
        "distance",
        "column_type",
        "index",
        "keep_for",
    }
)
_NUMBERS = frozenset({"batch_size", "dimensions"})
_SWITCHES = frozenset({"create_enabled"})
_BACKEND_KEYS = _TEXTS | _NUMBERS | _SWITCHES
_PLACES = {
    "provider": ("type",),
    "model": ("model",),
    "base_url": ("baseURL",),
    "batch_size": ("embedding", "batchSize"),
    "dimensions": ("embedding", "dimensions"),
    "create_enabled": ("embedding", "createEnabled"),
    "query_prefix": ("embedding", "queryPrefix"),
    "document_prefix": ("embedding", "documentPrefix"),
    "distance": ("embedding", "distance"),
    "column_type": ("embedding", "columnType"),
    "index": ("embedding", "index"),
    "keep_for": ("embedding", "keepFor"),
}
"""Where in a spec each key goes; an empty text goes nowhere."""
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]#]+?)\s*\]")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_WHERE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Path = tuple[str | int, ...]


class BrokenConfigError(ValueError):
    """Why a file cannot be used, and the line. Never a value from the file: it may hold a key."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Backend:
    """One embedding backend."""

    name: str
    """As the file says it, or made of provider and model."""
    provider: str
    """The name as a Provider has it."""
    line: int
    api_key_env: str
    """The variable with the key; empty where there is none."""
    spec: Mapping[str, Any] = field(repr=False)
    """Of its Provider, but for the credential."""
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)
    """Line of each field, such as spec.embedding.dimensions, that the file says something of."""
    place: Path = ()
    """Of its table in the document."""

    @property
    def faults(self) -> tuple[str, ...]:
        """Why it cannot be a Provider, each with its line."""
        _, problems = parse_spec(self.spec, {})
        return tuple(f"{self.lines.get(each.partition(':')[0], self.line)}: {each}" for each in problems)

    def manifest(self, namespace: str | None, secret: str | None) -> dict[str, Any]:
        """Its Provider; `secret` is the name of the Secret with the key, below the variable's name."""
        metadata = {"name": self.provider, **({"namespace": namespace} if namespace else {})}
        named = {"credential": {"secretRef": {"name": secret, "key": self.api_key_env}}} if secret else {}
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": metadata,
            "spec": {**self.spec, **named},
        }


@dataclass(frozen=True, slots=True)
class MemoryLayerConfig:
    """What a file says of embeddings."""

    backends: tuple[Backend, ...] = ()
    enabled: bool = True
    active: Backend | None = None
    """The backend that queries read; the first one where the file names none."""
    warnings: tuple[tuple[int, str], ...] = ()
    """Line and text of what is ignored."""


def parse_config(text: str) -> MemoryLayerConfig:
    """What a file says. Raises BrokenConfigError: a file is good as a whole or not at all.

    A backend that cannot work, such as one without a model, is no fault of the file: its Provider says why.
    """
    document = _document(text)
    if not document:
        raise BrokenConfigError(1, f"is empty; [{TABLE}] with enabled = false turns semantic search off")
    return _Reader(document.get(TABLE, {}), _lines(text)).config()


def provider_name(name: str) -> str:
    """A backend's name as that of a Provider: lower-case letters, digits, '-' and '.'; empty where nothing is left."""
    plain = re.sub(r"[^a-z0-9.]+", "-", name.lower())
    return re.sub(r"[-.]*\.[-.]*", ".", plain).strip("-.")


class _Reader:
    """Reads the table of embeddings."""

    def __init__(self, table: Any, lines: Mapping[Path, int]) -> None:
        self._table = table
        self._lines = lines
        self._warnings: list[tuple[int, str]] = []

    def config(self) -> MemoryLayerConfig:
        if not isinstance(self._table, dict):
            raise BrokenConfigError(self._line(TABLE), f"{TABLE} must be a table")
        enabled = self._of_type(self._table, (TABLE,), "enabled", bool, "true or false", otherwise=True)
        backends = tuple(self._backends())
        active = self._active(backends)
        return MemoryLayerConfig(backends, enabled, active, tuple(sorted(self._warnings)))

    def _backends(self) -> Iterator[Backend]:
        seen: dict[str, int] = {}
        for place, table in self._tables():
            backend = self._backend(place, table)
            if backend.provider in seen:
                first = seen[backend.provider]
                line = self._line(*place, "name")
                raise BrokenConfigError(line, f"the backend in line {first} has this name; give each its own")
            seen[backend.provider] = backend.line
            yield backend

    def _tables(self) -> Sequence[tuple[Path, dict[str, Any]]]:
        """The tables of backends with their places: those of the list, or the one table of the legacy shape."""
        own = {key: value for key, value in self._table.items() if key not in ("active", "enabled", BACKENDS)}
        listed = self._table.get(BACKENDS)
        if listed is None:
            return [((TABLE,), own)] if own.keys() & {"provider", "model"} else self._nothing_of(own)
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise BrokenConfigError(self._line(TABLE, BACKENDS), f"write each backend as [[{TABLE}.{BACKENDS}]]")
        self._nothing_of(own)
        return [((TABLE, BACKENDS, number), each) for number, each in enumerate(listed)]

    def _nothing_of(self, keys: Mapping[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
        for key in keys:
            self._warn((TABLE, key), f"{key} in [{TABLE}] is ignored")
        return []

    def _backend(self, place: Path, table: dict[str, Any]) -> Backend:
        values: dict[str, Any] = {}
        for key in table:
            if key in _TEXTS:
                values[key] = self._text(table, place, key)
            elif key in _NUMBERS:
                values[key] = self._of_type(table, place, key, int, "a whole number", otherwise=None)
            elif key in _SWITCHES:
                values[key] = self._of_type(table, place, key, bool, "true or false", otherwise=None)
            else:
                self._warn((*place, key), f"{key[:MAX_NAME]} is no key of a backend and is ignored")
        given = values.get("name", "")
        name = given or "-".join(part for part in (values.get("provider"), values.get("model")) if part)
        variable = values.get("api_key_env", "")
        if variable and not _VARIABLE.fullmatch(variable):
            raise BrokenConfigError(
                self._line(*place, "api_key_env"), "api_key_env is the name of a variable, not the key itself"
            )
        return Backend(
            name=name,
            provider=self._provider(place, name, given),
            line=self._line(*place),
            api_key_env=variable,
            spec=_spec(values),
            lines={".".join(("spec", *_PLACES[key])): self._line(*place, key) for key in _PLACES if key in table},
            place=place,
        )

    def _provider(self, place: Path, name: str, given: str) -> str:
        provider = provider_name(name)
        line = self._line(*place, "name")
        if not provider:
            raise BrokenConfigError(line, "name must hold a letter or a digit" if given else "provider is missing")
        if len(provider) > MAX_NAME:
            raise BrokenConfigError(line, f"the name is longer than {MAX_NAME} characters")
        if given and provider != given:
            self._warn((*place, "name"), f"this backend is called {provider}, as names of Providers are written")
        return provider

    def _active(self, backends: Sequence[Backend]) -> Backend | None:
        wanted = self._text(self._table, (TABLE,), "active")
        if not wanted:
            return backends[0] if backends else None
        for backend in backends:
            if wanted in (backend.name, backend.provider):
                return backend
        raise BrokenConfigError(self._line(TABLE, "active"), "active names no backend of this file")

    def _text(self, table: Mapping[str, Any], place: Path, key: str) -> str:
        text = str(self._of_type(table, place, key, str, "text in quotes", otherwise=""))
        if not text.isprintable() and any(ord(each) < 32 or ord(each) == 127 for each in text):
            raise BrokenConfigError(self._line(*place, key), f"{key} holds a control character")
        return text

    def _of_type(
        self, table: Mapping[str, Any], place: Path, key: str, kind: type, form: str, *, otherwise: Any
    ) -> Any:
        value = table.get(key, otherwise)
        if key in table and type(value) is not kind:
            raise BrokenConfigError(self._line(*place, key), f"{key} must be {form}")
        return value

    def _warn(self, place: Path, text: str) -> None:
        self._warnings.append((self._line(*place), text))

    def _line(self, *place: str | int) -> int:
        """Line of a key, or of the innermost table around it that has one."""
        for length in range(len(place), 0, -1):
            if place[:length] in self._lines:
                return self._lines[place[:length]]
        return 1


def _spec(values: Mapping[str, Any]) -> dict[str, Any]:
    """A backend's spec. An edit of it makes another space, which waits for `activate`, and discards nothing."""
    embedding: dict[str, Any] = {"dimensionChange": "Shadow", "activation": "Manual"}
    spec: dict[str, Any] = {"role": "embedding"}
    for key, (*outer, field_name) in _PLACES.items():
        value = values.get(key)
        if value is None or value == "":
            continue
        target = embedding if outer else spec
        target[field_name] = _TYPES.get(value, value) if key == "provider" else value
    return {**spec, "embedding": embedding}


def _document(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = _WHERE.search(message)
        at_end = text.count("\n") + (not text.endswith("\n"))
        line = int(found[1]) if found and found[1] else at_end
        raise BrokenConfigError(max(1, line), _WHERE.sub("", message) or "is no TOML") from None
    except ValueError:
        raise BrokenConfigError(1, "holds a number or a time that cannot be") from None
    except RecursionError:
        raise BrokenConfigError(1, "is nested too deeply") from None


def _lines(text: str) -> dict[Path, int]:
    """Line of each table and key below [embeddings], the first for one that is met twice.

    For messages only: a line inside a text of several lines may be taken for a key.
    """
    lines: dict[Path, int] = {}
    table: Path = ()
    backends = -1
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            names = _names(header[2])
            if names[:2] == (TABLE, BACKENDS):
                backends += len(names) == 2 and header[1] == "[["
                names = (*names[:2], max(0, backends), *names[2:])
            table = names
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault((*table, *_names(key[1])), number)
    return {place: number for place, number in lines.items() if place[:1] == (TABLE,)}


def _names(dotted: str) -> Path:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
