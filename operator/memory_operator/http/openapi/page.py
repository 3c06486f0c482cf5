"""The docs page: the OpenAPI document as one plain page, which needs no network and no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

CONTENT_SECURITY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The page needs its own style, and nothing from anywhere."""

Schema = Mapping[str, Any]
Schemas = Mapping[str, Schema]

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code { font-family: ui-monospace, monospace; font-size: .9em; }
summary { cursor: pointer; padding: .4rem 0; }
summary b { display: inline-block; min-width: 4.5rem; }
td, th { text-align: left; vertical-align: top; padding: .15rem 1rem .15rem 0; }
details { border-bottom: 1px solid #8884; }
h2 { margin-top: 2rem; }
"""
_INTRO = (
    "<p>Bodies are JSON, read strictly, whatever the Content-Type. Every error is a problem document (RFC 9457)"
    " with a <code>hint</code>. For programs, this page is <a href='/openapi.json'>/openapi.json</a>.</p>"
)


def docs_page(document: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI document."""
    info, schemas = document["info"], document["components"]["schemas"]
    return "".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
            f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>",
            f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}</p>",
            _INTRO,
            *_groups(document["paths"], schemas),
            "</html>",
        ]
    )


def index_page(title: str, version: str) -> str:
    """HTML of the address without a path."""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(title)} {escape(version)}</h1><p>This is the memory API: <a href='/docs'>its routes</a>,"
        " <a href='/openapi.json'>the same for programs</a>. The command line is <code>memory</code>.</p></html>"
    )


def _groups(paths: Mapping[str, Any], schemas: Schemas) -> Iterator[str]:
    groups: dict[str, list[tuple[str, str, Schema]]] = {}
    for path, methods in paths.items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    for name, operations in groups.items():
        yield f"<h2>{escape(name.capitalize())}</h2>"
        for method, path, operation in operations:
            yield from _operation(method, path, operation, schemas)


def _operation(method: str, path: str, operation: Schema, schemas: Schemas) -> Iterator[str]:
    yield f"<details><summary><b>{method}</b> <code>{escape(path)}</code></summary>"
    yield from (f"<p>{escape(part)}</p>" for part in operation["description"].split("\n\n"))
    rows = [
        (parameter["name"], parameter["schema"], parameter.get("description", ""), parameter.get("required", False))
        for parameter in operation.get("parameters", [])
    ]
    if "requestBody" in operation:
        rows += _fields(operation["requestBody"]["content"]["application/json"]["schema"], schemas)
    yield from _table("Parameters and fields", rows)
    for code, answer in operation["responses"].items():
        schema = answer.get("content", {}).get("application/json", {}).get("schema")
        if schema:
            fields = [(name, field, text, False) for name, field, text, _ in _fields(schema, schemas)]
            yield from _table(f"Answer {code}", fields)
    codes = "; ".join(f"{code} {answer['description']}" for code, answer in operation["responses"].items())
    yield f"<p>{escape(codes)}</p></details>"


def _fields(schema: Schema, schemas: Schemas, prefix: str = "") -> list[tuple[str, Schema, str, bool]]:
    """The fields of an object, those of the objects in it too: name, schema, description, whether it is required."""
    rows = []
    model = _model(schema, schemas)
    for name, field in (model or {}).get("properties", {}).items():
        required = name in (model or {}).get("required", [])
        rows.append((f"{prefix}{name}", field, field.get("description", ""), required))
        inside = field.get("items", field)
        brackets = "[]" if "items" in field else ""
        rows += _fields(inside, schemas, f"{prefix}{name}{brackets}.")
    return rows


def _model(schema: Schema, schemas: Schemas) -> Schema | None:
    """The object that a schema refers to, also where it may be null; none of ours holds itself."""
    for choice in (schema, *schema.get("anyOf", [])):
        name = str(choice.get("$ref", "")).rpartition("/")[2]
        if "properties" in schemas.get(name, {}):
            return schemas[name]
    return None


def _table(title: str, rows: list[tuple[str, Schema, str, bool]]) -> Iterator[str]:
    if rows:
        yield f"<table><tr><th colspan=4>{escape(title)}"
        for name, schema, description, required in rows:
            need = "required" if required else ""
            yield f"<tr><td><code>{escape(name)}</code><td>{escape(_type(schema))}<td>{need}<td>{escape(description)}"
        yield "</table>"


def _type(schema: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    if "$ref" in schema:
        return "object"
    return str(schema.get("format") or schema.get("type", "any"))
