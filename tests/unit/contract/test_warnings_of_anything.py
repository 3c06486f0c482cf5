"""Whatever a manifest holds: warnings are short, printable, and hold no secret."""

from __future__ import annotations

import itertools
from typing import Any

from fixtures.edits import COMPATIBLE, MANY, manifest, status
from memory_operator.contract.warnings import MAX_CHARACTERS, warnings_for


def test_no_warning_holds_a_password_or_anything_but_printable_ascii() -> None:
    new = manifest(COMPATIBLE, baseURL="http://user:secret@localhost/v1?key=secret", model="modèle\r\nX: y")
    new["spec"]["embedding"] = {"dimensions": 3}
    for text in warnings_for(manifest(COMPATIBLE, embedding={"dimensions": 4}), new):
        assert "secret" not in text
        assert text.isascii()
        assert text.isprintable()


LONG = "m" * 2000
SPECS: list[dict[str, Any]] = [
    {},
    {"model": LONG},
    {"type": LONG},
    {"type": "ollama", "model": f"nomic-embed-text:{LONG}"},
    {"baseURL": f"http://{LONG}.localhost/{LONG}", "credential": {}},
    {"platform": {"type": LONG}},
    {"unknown" + LONG: 1},
    {"model": "other", "baseURL": "http://x", "embedding": {"queryPrefix": "q", "columnType": "halfvec"}},
    *[
        {"type": kind, "embedding": {"dimensions": size, "dimensionChange": how, "activation": when, "columnType": col}}
        for kind, size, how, when, col in itertools.product(
            ("openai", "ollama"), (None, 3, 3999, 4096), ("InPlace", "Shadow"), ("Manual", "Automatic"), ("halfvec", 0)
        )
    ],
]


def test_every_warning_is_short_and_starts_with_a_field_whatever_was_edited() -> None:
    statuses = [{}, status(applied=3998, vectors=MANY, chunks=MANY)]
    for old, new, known in itertools.product(SPECS, SPECS, statuses):
        before, after = manifest(status=known, **old), manifest(**new)
        for text in warnings_for(before, after) + warnings_for(None, after):
            assert len(text) <= MAX_CHARACTERS
            assert text.startswith(("spec.", "metadata.annotations["))
            assert "..." not in text or len(str(new)) > 1000, text
            assert " 0 " not in text


GARBAGE: list[Any] = [None, [], "x", 5, 1.5, True, {}, {"a": {"b": [None]}}, [{}], {"type": []}]


def test_garbage_anywhere_in_a_manifest_raises_nothing() -> None:
    for waste in GARBAGE:
        for key in ("metadata", "spec", "status"):
            broken = {**manifest(), key: waste}
            assert isinstance(warnings_for(broken, manifest(model="x")), list)
            assert isinstance(warnings_for(manifest(), broken), list)
        for field in ("role", "type", "model", "baseURL", "embedding", "credential", "platform", "auth", "headers"):
            broken = manifest(**{field: waste})
            assert isinstance(warnings_for(manifest(status=status()), broken), list)
            assert isinstance(warnings_for(broken, manifest(model="x")), list)
        for name in ("dimensions", "columnType", "dimensionChange", "queryPrefix", "limits", "rerank"):
            assert isinstance(warnings_for(manifest(), manifest(embedding={name: waste})), list)
        old = manifest(status={"embedding": {"vectors": waste, "appliedDimensions": waste, "observedGeneration": 3}})
        old["metadata"]["annotations"] = {"memory-operator/embedding-status": waste, "memory-operator/limits": "[" * 99}
        assert isinstance(warnings_for(old, manifest(embedding={"dimensions": 5})), list)
