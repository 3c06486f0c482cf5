"""The docs page: the OpenAPI document as one plain page, which needs no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

CONTENT_SECURITY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The page needs its own style, and nothing from anywhere."""

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
summary { cursor: pointer; padding: .4rem 0; }
summary b { display: inline-block; min-width: 4.5rem; }
td, th { text-align: left; vertical-align: top; padding: .15rem 1rem .15rem 0; }
details { border-bottom: 1px solid #8884; }
"""


def docs_page(document: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI document."""
    schemas = document["components"]["schemas"]
    return "".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
            f"<title>{escape(document['info']['title'])} API</title><style>{_STYLE}</style>",
            f"<h1>{escape(document['info']['title'])} {escape(document['info']['version'])}</h1>",
            "<p>Every error is a problem document with a <code>hint</code>."
            " The machine-readable form of this page is <a href='/openapi.json'>/openapi.json</a>.</p>",
            *_operations(document["paths"], schemas),
            "</html>",
        ]
    )


def _operations(paths: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code></summary>"
            yield f"<p>{escape(operation.get('description', ''))}</p>"
            parameters = [
                (p["name"], p["schema"], p.get("description", ""), p.get("required", False))
                for p in operation.get("parameters", [])
            ]
            body = operation.get("requestBody")
            if body:
                name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                required = schemas[name].get("required", [])
                parameters += [
                    (field, schema, schema.get("description", ""), field in required)
                    for field, schema in schemas[name]["properties"].items()
                ]
            yield from _table(parameters)
            codes = ", ".join(f"{code} {answer['description']}" for code, answer in operation["responses"].items())
            yield f"<p>Answers: {escape(codes)}</p></details>"


def _table(rows: list[tuple[str, Mapping[str, Any], str, bool]]) -> Iterator[str]:
    if rows:
        yield "<table>"
        for name, schema, description, required in rows:
            need = "required" if required else ""
            yield f"<tr><td><code>{escape(name)}</code><td>{escape(_type(schema))}<td>{need}<td>{escape(description)}"
        yield "</table>"


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    return str(schema.get("type", "any"))
