"""What a raw manifest of a Provider says, as far as it can be read. Nothing here raises, whatever the manifest holds.

The warnings need this rather than ProviderSpec: they look at old objects, objects of another CRD and objects with
mistakes in fields that have nothing to do with the warning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from memory_operator.contract.fields import duration_seconds
from memory_operator.contract.known_models import default_base_url, default_model, known_dimension
from memory_operator.contract.provider import DEFAULT_KEEP_SECONDS
from memory_operator.contract.rerank import DEFAULT_TEXTS
from memory_operator.contract.resource import ANNOTATION_PREFIX, STATUS_ANNOTATION, with_annotations
from memory_operator.contract.status import Phase

_FIELDS_EVERYWHERE = {"dimensions", "distance"}
"""What the group's own CRD has of spec.embedding."""
_USUAL_PERIOD = f"{DEFAULT_KEEP_SECONDS / 3600:.0f}h"
_PLATFORM = ("type", "region", "project", "endpoint")


@dataclass(frozen=True, slots=True)
class Reading:
    """The parts of a spec that warnings are about. None, "" or False is what could not be read."""

    role: str
    type: str
    model: str
    base_url: str | None
    """As it stands in the spec, without trailing slash."""
    platform: tuple[str, ...]
    """Type, region, project and endpoint of the platform; empty when there is none."""
    platform_type: str
    declared: int | None
    """spec.embedding.dimensions."""
    column_type: str
    index: str
    """spec.embedding.index; hnsw where it is left out."""
    hnsw: str
    """spec.embedding.hnsw as JSON; "" where there is none."""
    shadow: bool
    manual: bool
    """Whether a full space waits for `activate` after an edit."""
    measured: bool
    """Whether it has to be good enough as well."""
    keep_for: str
    """How long a space that an edit replaces still gets new memories; "" for not at all."""
    price: str
    """US dollars for 1,000 tokens, as they stand there; "" where there is none."""
    document_prefix: str
    query_prefix: str
    has_credential: bool
    rerank: str
    """spec.embedding.rerank as JSON; "" where there is none."""

    @property
    def dimension(self) -> int | None:
        """The dimension that is declared, or known of the model; None where only a call can tell."""
        return self.declared or known_dimension(self.type, self.model)

    @property
    def effective_base_url(self) -> str | None:
        """Where calls go: the type's own base URL when none is given."""
        return self.base_url or default_base_url(self.type)

    @property
    def rerank_base_url(self) -> str | None:
        """Where texts go to be re-ranked, if they do."""
        return _text(_json_mapping(self.rerank).get("baseURL")) or self.effective_base_url

    @property
    def rerank_texts(self) -> int:
        """How many texts a query sends there."""
        return _count(_json_mapping(self.rerank).get("top")) or DEFAULT_TEXTS


@dataclass(frozen=True, slots=True)
class StatusFigures:
    """What the status of an object tells of its space. None is unknown."""

    applied: int | None = None
    """Dimension of the applied space."""
    vectors: int | None = None
    """Vectors in the applied space; of 0 it is known that there may be some by now."""
    chunks: int | None = None
    """Live chunks in the store."""


def read_spec(manifest: Mapping[str, Any]) -> Reading:
    """What the spec and the annotations that stand in for it say."""
    annotations = _mapping(_mapping(manifest.get("metadata")).get("annotations"))
    spec, _ = with_annotations(dict(_mapping(manifest.get("spec"))), {str(k): str(v) for k, v in annotations.items()})
    embedding, platform = _mapping(spec.get("embedding")), _mapping(spec.get("platform"))
    credential = _mapping(spec.get("credential"))
    return Reading(
        role=_text(spec.get("role")),
        type=_text(spec.get("type")),
        model=_text(spec.get("model")) or default_model(_text(spec.get("type"))),
        base_url=_text(spec.get("baseURL")).rstrip("/") or None,
        platform=tuple(_text(platform.get(part)) for part in _PLATFORM) if platform else (),
        platform_type=_text(platform.get("type")),
        declared=_count(embedding.get("dimensions")),
        column_type="halfvec" if embedding.get("columnType") == "halfvec" else "vector",
        index=_text(embedding.get("index")) or "hnsw",
        hnsw=_json(embedding.get("hnsw")),
        shadow=embedding.get("dimensionChange") == "Shadow",
        manual=embedding.get("activation") == "Manual",
        measured=embedding.get("activation") == "Measured",
        keep_for=_period(embedding.get("keepFor")),
        price=_text(_mapping(spec.get("pricing")).get("inputCostPer1K")),
        document_prefix=_text(embedding.get("documentPrefix")),
        query_prefix=_text(embedding.get("queryPrefix")),
        has_credential=any(credential.get(way) for way in ("secretRef", "envVar", "filePath")),
        rerank=_json(embedding.get("rerank")),
    )


def read_figures(manifest: Mapping[str, Any]) -> StatusFigures:
    """The figures that a current status, or the annotation that stands in for it, tells; unknown when it is older."""
    metadata = _mapping(manifest.get("metadata"))
    generation = _count(metadata.get("generation"))
    status = _mapping(manifest.get("status"))
    figures, phase = _mapping(status.get("embedding")), status.get("phase")
    if not figures:
        figures = _json_mapping(_mapping(metadata.get("annotations")).get(STATUS_ANNOTATION))
        phase = figures.get("phase")
    if generation is None or _count(figures.get("observedGeneration")) != generation:
        return StatusFigures()
    # While a space is filled beside the applied one, `vectors` is of the space being filled.
    vectors = None if phase == Phase.REEMBEDDING else _count(figures.get("vectors"), least=0)
    return StatusFigures(_count(figures.get("appliedDimensions")), vectors, _count(figures.get("chunks")))


def field_path(name: str, *manifests: Mapping[str, Any]) -> str:
    """What a field of spec.embedding that only our CRD has is called where these manifests come from.

    On the group's own CRD it would be pruned; an annotation works on either. So the field is named only where something
    shows that it is ours.
    """
    for manifest in manifests:
        embedding = _mapping(_mapping(manifest.get("spec")).get("embedding"))
        figures = _mapping(_mapping(manifest.get("status")).get("embedding"))
        if figures or not embedding.keys() <= _FIELDS_EVERYWHERE:
            return f"spec.embedding.{name}"
    return f"metadata.annotations[{ANNOTATION_PREFIX}{name}]"


def host_of(url: str | None) -> str:
    """The host of a base URL, in lower case; "" when there is none. User and password are no part of it."""
    try:
        return (urlsplit(url or "").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _json(value: Any) -> str:
    """A mapping as text; "" where it is none, or empty."""
    mapping = _mapping(value)
    return json.dumps(mapping, sort_keys=True, default=str) if mapping else ""


def _json_mapping(text: Any) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(text))
    except (TypeError, ValueError, RecursionError):
        return {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _period(value: Any) -> str:
    """A duration as it stands there, the usual one where there is none that can be read; "" for none at all."""
    text = _text(value) or _USUAL_PERIOD
    try:
        return text if duration_seconds(text, least=0) > 0 else ""
    except ValueError:
        return _USUAL_PERIOD


def _count(value: Any, *, least: int = 1) -> int | None:
    """A whole number, and not below the least that tells something; None for everything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= least else None
