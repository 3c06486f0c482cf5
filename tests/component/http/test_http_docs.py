"""The OpenAPI document and the page that shows it, without a network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from fixtures.api import Api

ROUTES = {
    ("post", "/memory/add"),
    ("post", "/memory/query"),
    ("get", "/memory/{memory_id}"),
    ("patch", "/memory/{memory_id}"),
    ("delete", "/memory/{memory_id}"),
    ("get", "/memory/{memory_id}/history"),
    ("get", "/v1/memories"),
    ("get", "/v1/embeddings/quarantine"),
    ("post", "/v1/embeddings/quarantine/retry"),
    ("get", "/v1/embeddings/spaces"),
    ("get", "/v1/embeddings/status"),
    ("post", "/v1/embeddings/activate"),
    ("post", "/v1/embeddings/deactivate"),
    ("post", "/v1/embeddings/create-enabled"),
    ("post", "/v1/embeddings/compare"),
    ("get", "/v1/embeddings/rehearsals"),
    ("post", "/v1/embeddings/rehearsals"),
    ("post", "/v1/embeddings/rehearsals/{id}/fill"),
    ("delete", "/v1/embeddings/rehearsals/{id}"),
    ("post", "/v1/prune-embeddings"),
    ("post", "/v1/reembed"),
    ("post", "/v1/reindex"),
    ("get", "/v1/jobs"),
    ("get", "/v1/jobs/{id}"),
    ("get", "/v1/jobs/{id}/skipped"),
    ("post", "/v1/jobs/{id}/pause"),
    ("post", "/v1/jobs/{id}/resume"),
    ("post", "/v1/jobs/{id}/cancel"),
    ("get", "/v1/usage"),
    ("post", "/v1/doctor"),
    ("post", "/v1/doctor/repair"),
    ("get", "/v1/quotas"),
    ("get", "/v1/projects"),
    ("get", "/v1/projects/stats"),
    ("post", "/v1/projects/language"),
    ("get", "/v1/stats"),
    ("get", "/activity"),
    ("get", "/admin/embedding-dimension-change"),
    ("post", "/admin/embedding-dimension-change"),
    ("delete", "/admin/embedding-dimension-change/{marker_id}"),
}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


async def test_every_route_is_documented_with_its_body_its_answer_and_its_problems(api: Api) -> None:
    document = (await api.get("/openapi.json")).json()
    assert {(method, path) for method, path, _ in operations(document)} == ROUTES
    for method, path, operation in operations(document):
        assert operation["description"], path
        assert ("requestBody" in operation) == (method in ("post", "patch")), path
        codes = set(operation["responses"])
        assert codes >= {"400", "401", "403", "413", "500", "503"}
        assert "422" not in codes
        for code, answer in operation["responses"].items():
            if code >= "400":
                assert answer["content"] == {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                }
            elif code != "204":
                assert "$ref" in answer["content"]["application/json"]["schema"], (path, code)


async def test_every_reference_of_the_document_leads_somewhere_in_it(api: Api) -> None:
    text = (await api.get("/openapi.json")).text
    document = json.loads(text)
    for reference in set(re.findall(r'"\$ref":\s*"([^"]+)"', text)):
        here = document
        for part in reference.removeprefix("#/").split("/"):
            here = here[part]
    assert "ValidationError" not in document["components"]["schemas"]


async def test_fields_are_documented_as_strictly_as_they_are_read(api: Api) -> None:
    schemas = (await api.get("/openapi.json")).json()["components"]["schemas"]
    consent = schemas["ConsentBody"]
    assert consent["additionalProperties"] is False
    assert consent["required"] == ["target_dim"]
    assert consent["properties"]["target_dim"]["type"] == "integer"
    assert schemas["QueryBody"]["properties"]["k"] | {"description": ""} == {
        "default": 10,
        "description": "",
        "maximum": 200,
        "minimum": 1,
        "title": "K",
        "type": "integer",
    }
    assert set(schemas["EffectAnswer"]["properties"]) >= {"from", "to", "vectors_discarded"}


async def test_the_page_shows_every_route_and_every_field_and_needs_nothing_from_elsewhere(api: Api) -> None:
    answer = await api.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = answer.text
    for _, path in ROUTES:
        assert path in page
    for field in ("target_dim", "ttl_seconds", "created_after", "embedding_version", "dry_run", "purge"):
        assert field in page
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    assert "<script" not in page
