"""Manifests in YAML or JSON, read as strictly as an API server reads them, with the line of each field."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from memory_operator.contract.provider import GROUP, KIND, VERSION
from memory_operator.errors import InvalidInput

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_STEP = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")
_NAMED_VALUE = re.compile(r"\b(alias|tag|anchor|handle) ['\"].*", re.DOTALL)
"""Where PyYAML quotes a word of the file; all else that it quotes is single characters and tokens."""


class BrokenManifest(InvalidInput):
    """Why a file cannot be used, and the line. Never a value from the file: it may hold secrets."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Document:
    """One manifest that we use: a Provider, or a Secret with its decoded values."""

    kind: str
    namespace: str
    name: str
    line: int
    manifest: Mapping[str, Any] = field(repr=False)
    node: yaml.Node | None = field(default=None, repr=False, compare=False)
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)
    lines: Mapping[str, int] | None = field(default=None, repr=False, compare=False)
    """Lines of the fields where the file is no YAML."""

    def line_of(self, path: str) -> int | None:
        """Line of a field, such as `spec.embedding.limits`, or of the innermost part of it that is there.

        None of a document that was kept from an earlier look.
        """
        if self.lines is not None:
            return self.lines.get(path, self.line)
        return None if self.node is None else _line_of(self.node, path, self.line)


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What a file holds."""

    documents: tuple[Document, ...] = ()
    unused: tuple[str, ...] = ()
    """Kinds that nothing here uses."""
    warnings: tuple[tuple[int, str], ...] = ()
    """Line and text of what is there and ignored."""


def parse_manifests(text: str, *, is_json: bool = False) -> ParsedFile:
    """Read all documents of a file. Raises BrokenManifest: a file is good as a whole or not at all.

    A file without a document is broken: an editor or a full disk may have emptied it, and nobody deletes like that.
    """
    documents = []
    unused: dict[str, None] = {}
    for manifest, node in _objects(text, is_json=is_json):
        line = _line(node)
        if not isinstance(manifest, dict):
            raise BrokenManifest(line, "a manifest is a mapping with apiVersion, kind and metadata")
        if not isinstance(manifest.get("kind"), str):
            raise BrokenManifest(line, "kind is missing")
        for part, part_node in _items(manifest, node):
            document = _document(part, part_node)
            if document is None:
                unused[str(part.get("kind"))] = None
            else:
                documents.append(document)
    if not documents and not unused:
        raise BrokenManifest(1, "holds no manifest; delete the file to delete what it defined")
    return ParsedFile(tuple(documents), tuple(unused))


def _objects(text: str, *, is_json: bool) -> Iterator[tuple[Any, yaml.Node | None]]:
    if is_json:
        yield _json(text), _json_lines(text)
        return
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            value = loader.construct_document(node)
            if value is not None:
                _refuse_other_than_json(value, node)
                yield value, node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BrokenManifest(mark.line + 1 if mark else 1, _without_values(error.problem or "is no YAML")) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BrokenManifest(line, "holds a character that YAML does not allow") from None
    except RecursionError:
        raise BrokenManifest(1, "is nested too deeply") from None


class _Loader(yaml.SafeLoader):
    """Safe YAML without dates (Kubernetes has none) and without keys that are given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: Any = None) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, "a key is given twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refuse_other_than_json(value: Any, node: yaml.Node | None) -> None:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        raise BrokenManifest(_line(node), "holds something that JSON cannot say") from None


def _json(text: str) -> Any:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in found]
        if len(set(keys)) < len(keys):
            raise BrokenManifest(1, "a key is given twice")
        return dict(found)

    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise BrokenManifest(error.lineno, error.msg) from None
    except RecursionError:
        raise BrokenManifest(1, "is nested too deeply") from None


def _json_lines(text: str) -> yaml.Node | None:
    """Lines of a JSON file, read as YAML; None where tabs indent it, which YAML does not allow."""
    try:
        return yaml.compose(text, _Loader)
    except (yaml.YAMLError, RecursionError):
        return None


def _items(manifest: dict[str, Any], node: yaml.Node | None) -> Iterator[tuple[dict[str, Any], yaml.Node | None]]:
    """The manifest, or what is in it when it is a List."""
    items = manifest.get("items")
    if not manifest["kind"].endswith("List") or not isinstance(items, list):
        yield manifest, node
        return
    items_node = _child(node, "items")
    for number, item in enumerate(items):
        item_node = _child(items_node, str(number))
        if not isinstance(item, dict):
            raise BrokenManifest(_line(item_node or node), "a manifest is a mapping with apiVersion, kind and metadata")
        yield item, item_node or node


def _document(manifest: dict[str, Any], node: yaml.Node | None) -> Document | None:
    """The document when it is one that we use. Raises BrokenManifest."""
    kind, version = manifest.get("kind"), manifest.get("apiVersion")
    if not isinstance(version, str):
        raise BrokenManifest(_line(node), "apiVersion is missing")
    if (version, kind) == ("v1", "Secret"):
        secret = _secret(manifest, node)
    elif version == f"{GROUP}/{VERSION}" and kind == KIND:
        secret = {}
    elif version.partition("/")[0] == GROUP:
        line = _line_of(node, "apiVersion", _line(node))
        raise BrokenManifest(line, f"there is no such kind; {KIND} is in {GROUP}/{VERSION}")
    else:
        return None
    namespace, name = _identity(manifest, node)
    return Document(str(kind), namespace, name, _line(node), manifest, node, secret)


def _identity(manifest: dict[str, Any], node: yaml.Node | None) -> tuple[str, str]:
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        raise BrokenManifest(_line(node), "metadata is missing")
    name, namespace = metadata.get("name"), metadata.get("namespace")
    namespace = "default" if namespace is None else namespace
    # They become names of files, too.
    if not isinstance(name, str) or not _SUBDOMAIN.fullmatch(name):
        line = _line_of(node, "metadata.name", _line(node))
        raise BrokenManifest(line, "metadata.name must be lower-case letters, digits, '-' and '.'")
    if not isinstance(namespace, str) or not _LABEL.fullmatch(namespace):
        line = _line_of(node, "metadata.namespace", _line(node))
        raise BrokenManifest(line, "metadata.namespace must be lower-case letters, digits and '-'")
    return namespace, name


def _secret(manifest: dict[str, Any], node: yaml.Node | None) -> dict[str, str]:
    """Decoded values; stringData goes over data. A value that is no UTF-8 text is left out."""
    values: dict[str, str] = {}
    for part in ("data", "stringData"):
        found = manifest.get(part) or {}
        if not isinstance(found, dict):
            raise BrokenManifest(_line_of(node, part, _line(node)), f"{part} must be a mapping")
        for key, value in found.items():
            line = _line_of(node, f"{part}[{key}]", _line(node))
            if not isinstance(value, str):
                raise BrokenManifest(line, f"a value in {part} must be text; put it in quotes")
            if part == "stringData":
                values[key] = value
                continue
            try:
                values[key] = base64.b64decode("".join(value.split()), validate=True).decode()
            except binascii.Error:
                raise BrokenManifest(line, "a value in data is not base64; plain text goes into stringData") from None
            except UnicodeDecodeError:
                continue
    return values


def _without_values(problem: str) -> str:
    return _NAMED_VALUE.sub(r"\1", problem)


def _line(node: yaml.Node | None) -> int:
    return node.start_mark.line + 1 if node is not None else 1


def _child(node: yaml.Node | None, step: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if getattr(key, "value", None) == step), None)
    if isinstance(node, yaml.SequenceNode) and step.isdecimal() and int(step) < len(node.value):
        child = node.value[int(step)]
        return child if isinstance(child, yaml.Node) else None
    return None


def _line_of(node: yaml.Node | None, path: str, otherwise: int) -> int:
    """Line of the key where the value is a mapping's, so that a block is found at its head."""
    line = otherwise
    for bracketed, plain in _STEP.findall(path):
        step = bracketed or plain
        if isinstance(node, yaml.MappingNode):
            key = next((key for key, _ in node.value if getattr(key, "value", None) == step), None)
            if key is None:
                return line
            line = key.start_mark.line + 1
        node = _child(node, step)
        if node is None:
            return line
        if not isinstance(node, yaml.MappingNode) and line == otherwise:
            line = _line(node)
    return line
