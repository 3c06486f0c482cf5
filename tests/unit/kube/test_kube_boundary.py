"""Calls to an API server, and what their failures become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memory_operator.errors import Conflict, NotFound, SecretMissing, SourceUnavailable
from memory_operator.kube.boundary import ApiCall, Expired, Forbidden, Refused, ask, read_path
from memory_operator.kube.client import open_api
from memory_operator.kube.secrets import secret_reader

GET = ApiCall("get", "omnia.altairalabs.ai", "v1alpha1", "providers", "agents", "memory")
PATCH = ApiCall("patch", "omnia.altairalabs.ai", "v1alpha1", "providers", "agents", "memory", "status")


def failure(reason: str, name: str | None = None, **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "reason": reason, "message": "prose", "details": {"name": name, **details}}


async def test_a_call_carries_the_token_and_the_path_of_its_object(api_server: Any, tmp_path: Path) -> None:
    api_server.answers = [(200, {"kind": "Provider"})]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        assert await ask(api, PATCH, {"status": {}}) == {"kind": "Provider"}
    method, path, headers, body = api_server.requests[0]
    assert (method, body) == ("PATCH", {"status": {}})
    assert path == "/apis/omnia.altairalabs.ai/v1alpha1/namespaces/agents/providers/memory/status"
    assert headers["Authorization"] == "Bearer stub-token"
    assert headers["Content-Type"] == "application/merge-patch+json"


@pytest.mark.parametrize(
    ("status", "reply", "kind", "words"),
    [
        (401, failure("Unauthorized"), SourceUnavailable, "does not accept this process's token"),
        (
            403,
            failure("Forbidden"),
            Forbidden,
            "needs get on providers of omnia.altairalabs.ai in namespace agents",
        ),
        (404, failure("NotFound", "memory"), NotFound, "no such object"),
        (404, "404 page not found", SourceUnavailable, "does not know providers"),
        (409, failure("Conflict", "memory"), Conflict, "changed by somebody else"),
        (410, failure("Expired"), Expired, "expired before its end"),
        (422, failure("Invalid", causes=[{"field": "status.phase"}]), Refused, "422: status.phase"),
        (500, failure("InternalError"), SourceUnavailable, "answers 500"),
        (503, "upstream", SourceUnavailable, "answers 503"),
    ],
)
async def test_a_failure_becomes_an_error_that_says_what_to_do_without_the_servers_prose(
    api_server: Any, tmp_path: Path, status: int, reply: Any, kind: type[Exception], words: str
) -> None:
    api_server.answers = [(status, reply)]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        with pytest.raises(kind) as raised:
            await ask(api, GET)
    assert type(raised.value) is kind
    assert words in str(raised.value)
    assert "prose" not in str(raised.value)


async def test_a_refused_field_with_foreign_text_in_its_name_is_left_out(api_server: Any, tmp_path: Path) -> None:
    api_server.answers = [(422, failure("Invalid", causes=[{"field": "<script>"}, "x", {"field": 3}]))]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        with pytest.raises(Refused, match=r"\(422\)"):
            await ask(api, GET)


async def test_a_server_asked_to_wait_for_is_waited_for(api_server: Any, tmp_path: Path) -> None:
    api_server.answers = [(429, failure("TooManyRequests", retryAfterSeconds=7))]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        with pytest.raises(SourceUnavailable) as raised:
            await ask(api, GET)
    assert raised.value.retry_after == 7


async def test_a_server_that_never_answers_is_given_up(api_server: Any, tmp_path: Path) -> None:
    api_server.hang = True
    api_server.answers = [(200, {})]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        with pytest.raises(SourceUnavailable, match="no answer from the API server within"):
            await ask(api, GET, seconds=0.1)


async def test_a_server_that_is_down_is_unavailable_and_its_address_is_not_told(
    tmp_path: Path, api_server: Any
) -> None:
    api_server.url = "http://127.0.0.1:9"
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        with pytest.raises(SourceUnavailable) as raised:
            await ask(api, GET)
    assert "cannot be reached" in str(raised.value)
    assert "127.0.0.1" not in str(raised.value)


@pytest.mark.parametrize("name", ["", "..", "a/b", "../providers/x", "a%2Fb", "A", "a..b", "x" * 254, "a\n"])
async def test_a_name_that_no_object_can_have_never_reaches_the_server(
    api_server: Any, tmp_path: Path, name: str
) -> None:
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        with pytest.raises(SecretMissing):
            await secret_reader(api)("agents", name)
    assert api_server.requests == []


async def test_a_secret_is_decoded_and_what_is_no_text_is_left_out(api_server: Any, tmp_path: Path) -> None:
    api_server.answers = [(200, {"data": {"api-key": "c2VjcmV0", "binary": "/w==", "broken": "%"}})]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        assert await secret_reader(api)("agents", "key") == {"api-key": "secret"}
    assert api_server.requests[0][:2] == ("GET", "/api/v1/namespaces/agents/secrets/key")


async def test_a_secret_without_data_is_empty(api_server: Any, tmp_path: Path) -> None:
    api_server.answers = [(200, {})]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        assert await secret_reader(api)("agents", "key") == {}


async def test_a_document_that_is_not_there_is_none_and_a_broken_server_is_an_error(
    api_server: Any, tmp_path: Path
) -> None:
    api_server.answers = [(404, "404 page not found"), (500, "no")]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        assert await read_path(api, "/apis/x") is None
        with pytest.raises(SourceUnavailable):
            await read_path(api, "/apis/x")


@pytest.mark.parametrize(
    ("name", "kind", "labels"),
    [
        ("sh.helm.release.v1.memory.v1", "Opaque", {}),
        ("sh.helm.release.v1.memory.v1", "helm.sh/release.v1", {"owner": "helm"}),
        ("any", "Opaque", {"owner": "helm"}),
        ("any", "helm.sh/release.v1", {}),
        ("any", "kubernetes.io/service-account-token", {}),
        ("any", "kubernetes.io/dockerconfigjson", {}),
        ("any", "kubernetes.io/basic-auth", {}),
        ("memory-master-key", "Opaque", {"app.kubernetes.io/part-of": "memory-operator"}),
    ],
)
async def test_a_secret_that_is_no_vendors_key_is_not_given_to_a_provider(
    api_server: Any, tmp_path: Path, name: str, kind: str, labels: dict[str, str]
) -> None:
    api_server.answers = [(200, {"type": kind, "metadata": {"labels": labels}, "data": {"release": "c2VjcmV0"}})]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        with pytest.raises(SecretMissing, match="is for no Provider"):
            await secret_reader(api)("agents", name)


async def test_of_a_tls_secret_only_the_certificates_are_given(api_server: Any, tmp_path: Path) -> None:
    data = {"ca.crt": "Y2E=", "tls.crt": "Y3J0", "tls.key": "a2V5"}
    api_server.answers = [(200, {"type": "kubernetes.io/tls", "data": data})]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        assert await secret_reader(api)("agents", "ca") == {"ca.crt": "ca", "tls.crt": "crt"}
