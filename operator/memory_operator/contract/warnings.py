"""What to warn about when a Provider is created or edited: pure functions of the old and the new manifest.

Each warning starts with the path of a field, says what follows, and has at most MAX_CHARACTERS, since kubectl and the
API server may cut longer ones. Warnings never stop an edit; the operator repeats every check that matters.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memory_operator.contract.known_models import (
    can_embed,
    can_make,
    column_limit,
    known_dimension,
    needs_credential,
)
from memory_operator.contract.reading import Reading, StatusFigures, field_path, host_of, read_figures, read_spec
from memory_operator.contract.resource import parse_provider

MAX_CHARACTERS = 120

_DIMENSIONS = "spec.embedding.dimensions"
_SPACE_FIELDS = (
    ("spec.type", "type"),
    ("spec.model", "model"),
    ("spec.baseURL", "effective_base_url"),
    ("spec.platform", "platform"),
    ("spec.embedding.columnType", "column_type"),
    ("spec.embedding.documentPrefix", "document_prefix"),
)
"""Fields that make a space, beside the dimension, and the attribute of a Reading for each."""


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of an embedding Provider."""

    old: Reading
    new: Reading
    figures: StatusFigures
    change_path: str
    """What dimensionChange is called on the CRD that is there."""

    @property
    def before(self) -> int | None:
        """The dimension of what is stored: as the status tells, else as the old spec does."""
        return self.figures.applied or self.old.dimension

    @property
    def after(self) -> int | None:
        """The dimension that is asked for; None where only a call can tell."""
        return self.new.dimension

    @property
    def moved(self) -> list[str]:
        """Paths of the fields that make another space, beside the dimension."""
        return [path for path, name in _SPACE_FIELDS if getattr(self.old, name) != getattr(self.new, name)]

    @property
    def path(self) -> str:
        """The field to blame for a change of dimension."""
        if self.old.declared != self.new.declared or (not self.moved and self.old.shadow == self.new.shadow):
            return _DIMENSIONS
        if self.moved:
            return self.moved[0]
        return self.change_path if self.change_path.startswith("spec.") else _DIMENSIONS

    @property
    def resized(self) -> bool:
        """Whether this edit asks for another dimension than the stored one, or asks for it in another way."""
        if self.before is None or self.after is None or self.before == self.after:
            return False
        return bool(self.moved) or self.old.dimension != self.after or self.old.shadow != self.new.shadow


def warnings_for(old: Mapping[str, Any] | None, new: Mapping[str, Any], *, in_pod: bool = True) -> list[str]:
    """Warnings for the creation (`old` None) or an edit of a Provider; only for role embedding. Never raises for what
    a manifest holds. `in_pod` says where the embedder will be called from.
    """
    after = read_spec(new)
    before = read_spec(old) if old is not None else None
    if after.role != "embedding":
        return _leaving(before)
    problems = _problems(new)
    if before == after and (old is None or problems == _problems(old)):
        return []
    found = [*problems, *_unsupported(after), *_above_limit(after), *_contradiction(after)]
    found += [*_no_credential(after), *(_loopback(after) if in_pod else ()), *_rerank(before, after, in_pod=in_pod)]
    if old is not None and before is not None and before.role == "embedding":
        path = field_path("dimensionChange", old, new) if in_pod else "spec.embedding.dimensionChange"
        edit = Edit(before, after, read_figures(old), path)
        found += [*_removed(edit), *_resized(edit), *_declared(edit), *_another_space(edit), *_query_prefix(edit)]
        found += _index(edit)
    return [_fit(warning) for warning in found]


def _leaving(before: Reading | None) -> list[str]:
    if before is None or before.role != "embedding":
        return []
    return ["spec.role: no longer embedding, which counts as deletion; the vectors stay until they are pruned"]


def _problems(new: Mapping[str, Any]) -> list[str]:
    """What the CRD let pass, and the operator will not: annotations above all."""
    return [f"{_fit(problem, 106)} (not applied)" for problem in parse_provider(new).problems]


def _unsupported(new: Reading) -> list[str]:
    if new.platform_type and new.platform_type != "azure":
        return [f"spec.platform.type: {_short(new.platform_type)} is not supported for embedding; it is never called"]
    if new.type and not can_embed(new.type):
        return [f"spec.type: {_short(new.type)} is not supported for embedding; it is never called, Ready stays False"]
    return []


def _above_limit(new: Reading) -> list[str]:
    if not _too_long(new):
        return []
    limit = column_limit(new.column_type, new.index)
    path = _DIMENSIONS if new.declared else "spec.model"
    wider = limit < (new.dimension or 0) <= column_limit("halfvec")
    advice = "; index hnsw-halfvec goes to 4000" if wider else ""
    of = f" of {new.column_type}" if limit == column_limit(new.column_type) else ""
    return [f"{path}: {new.dimension} is above {limit}, the limit{of}, and is refused{advice}"]


def _contradiction(new: Reading) -> list[str]:
    if new.declared is None or can_make(new.type, new.model, new.declared) is not False:
        return []
    known = known_dimension(new.type, new.model)
    return [
        (
            f"{_DIMENSIONS}: {new.declared}, but {_short(new.model or new.type)} makes {known};"
            " nothing is stored while they differ"
        )
    ]


def _no_credential(new: Reading) -> list[str]:
    if new.has_credential or new.platform or not can_embed(new.type) or not needs_credential(new.type):
        return []
    return [f"spec.credential: type {new.type} needs one; until then nothing is embedded and Ready stays False"]


def _loopback(new: Reading) -> list[str]:
    host = host_of(new.effective_base_url)
    if new.platform or not _is_loopback(host):
        return []
    if new.base_url is None:
        return [f"spec.baseURL: left out, so {new.type} is looked for at {host}, which in a pod is the pod itself"]
    return [f"spec.baseURL: {_short(host)} is a loopback address, which in a pod is the pod itself"]


def _removed(edit: Edit) -> list[str]:
    if edit.old.declared is None or edit.new.declared is not None:
        return []
    if edit.after is not None:
        return [f"{_DIMENSIONS}: removed; the {edit.after} of the model itself count from now on"]
    if edit.new.shadow:
        return [f"{_DIMENSIONS}: removed; a probe call finds it out, and another than {edit.before} is filled beside"]
    return [f"{_DIMENSIONS}: removed; a probe call finds it out, and another than {edit.before} waits for consent"]


def _resized(edit: Edit) -> list[str]:
    """Another dimension than the stored one: what is discarded and how to consent, or what it costs to keep it."""
    if not edit.resized or _too_long(edit.new):
        return []
    change = f"{edit.path}: {edit.before} to {edit.after}"
    if edit.new.shadow:
        return [
            f"{change} embeds {_chunks(edit)} again; {_until(edit)}",
            f"{edit.change_path}: Shadow stores the old vectors and the new ones until a prune",
            *_kept(edit),
        ]
    if edit.figures.vectors == 0:
        return [f"{change} discards nothing: 0 vectors stored; any stored since wait for consent"]
    vectors = f"{edit.figures.vectors} vectors" if edit.figures.vectors else "all stored vectors"
    return [
        f"{change} discards {vectors}; held until one-shot consent names {edit.after}",
        f'{_DIMENSIONS}: to consent, POST /admin/embedding-dimension-change {{"target_dim":{edit.after}}}',
        f"{edit.change_path}: Shadow would discard nothing, need no consent, and store both{_until_a_prune(edit)}",
    ]


def _until_a_prune(edit: Edit) -> str:
    return " until a prune" if edit.change_path.startswith("spec.") else ""  # the annotation's path leaves no room


def _declared(edit: Edit) -> list[str]:
    """A dimension is declared where the stored one is unknown here."""
    if edit.before is not None or edit.new.declared is None or edit.new.shadow or _too_long(edit.new):
        return []
    return [f"{_DIMENSIONS}: if the stored vectors have another length than {edit.after}, this waits for consent"]


def _another_space(edit: Edit) -> list[str]:
    """Another model, address, prefix or column: a space of its own beside the applied one."""
    if not edit.moved or edit.resized or _too_long(edit.new):
        return []
    path = edit.moved[0] if len(edit.moved) == 1 else f"{edit.moved[0]} (and {len(edit.moved) - 1} more)"
    if edit.figures.applied not in (None, edit.old.dimension):  # the change to edit.old was held: this may take it back
        return [f"{path}: {edit.after} is stored already; embeds {_chunks(edit)} again unless it is the applied space"]
    found = [f"{path}: embeds {_chunks(edit)} again into a new space; {_until(edit)}", *_kept(edit)]
    if edit.after is None and not edit.new.shadow:
        stored = edit.before or "the stored one"
        found.append(f"{path}: the dimension is unknown before a call; another than {stored} waits for consent")
    return found


def _kept(edit: Edit) -> list[str]:
    """What the way back costs: new memories are embedded by both models for a while."""
    keep, price = edit.new.keep_for, edit.old.price
    if not keep:
        return []
    path = edit.change_path.replace("dimensionChange", "keepFor")
    text = f"{path}: the old model embeds new memories too for {keep} after the switch"
    more = f", at USD {price} per 1000 tokens" if price else "; 0s turns it off"
    return [text + more if len(text + more) <= MAX_CHARACTERS else text]


def _query_prefix(edit: Edit) -> list[str]:
    """What concerns queries only makes no space; beside an edit that makes one it belongs to the new one."""
    if edit.old.query_prefix == edit.new.query_prefix or edit.moved or edit.resized:
        return []
    return ["spec.embedding.queryPrefix: used from the next query on; nothing is embedded again"]


def _index(edit: Edit) -> list[str]:
    """Another index of the space that stays; one that is new has it from the start."""
    before, after = edit.old, edit.new
    if (before.index, before.hnsw) == (after.index, after.hnsw) or edit.moved or edit.resized or _too_long(after):
        return []
    path = "spec.embedding.index" if before.index != after.index else "spec.embedding.hnsw"
    if after.index == "none":
        return [f"{path}: the index is dropped, and queries read every vector; nothing is embedded again"]
    return [f"{path}: built beside the old index, which serves until then; nothing is embedded again"]


def _rerank(before: Reading | None, after: Reading, *, in_pod: bool) -> list[str]:
    """Re-ranking makes no space either; whose server gets texts of memories at query time is said once."""
    path, was = "spec.embedding.rerank", before.rerank if before else ""
    if was == after.rerank and (not was or before is None or before.rerank_base_url == after.rerank_base_url):
        return []
    if not after.rerank:
        return [f"{path}: removed; queries are answered without it, and nothing is embedded again"]
    host = host_of(after.rerank_base_url)
    found = [f"{path}: queries send up to {after.rerank_texts} memories' texts to {_short(host)}; nothing is embedded"]
    if in_pod and host != host_of(after.effective_base_url) and _is_loopback(host):
        found.append(f"{path}.baseURL: {_short(host)} is a loopback address, which in a pod is the pod itself")
    return found


def _chunks(edit: Edit) -> str:
    return f"{edit.figures.chunks} chunks" if edit.figures.chunks else "all chunks"


def _until(edit: Edit) -> str:
    if edit.new.measured:
        return "the old one answers until it is full and good enough"
    return f"the old one answers until {'activate' if edit.new.manual else 'full'}"


def _too_long(new: Reading) -> bool:
    return new.dimension is not None and new.dimension > column_limit(new.column_type, new.index)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _short(text: str, most: int = 32) -> str:
    """Foreign text for a message: printable ASCII, since a warning travels in an HTTP header, and not long."""
    clean = text[: most + 1]
    if not (clean.isascii() and clean.isprintable()):
        clean = "".join(character if " " <= character <= "~" else "?" for character in clean)
    return clean if len(clean) <= most else f"{clean[: most - 3]}..."


def _fit(text: str, most: int = MAX_CHARACTERS) -> str:
    return _short(text, most)
