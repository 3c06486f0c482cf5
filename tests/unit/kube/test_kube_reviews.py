"""What is made of an API server's reviews."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memory_operator.engine.ports.access import Access, Caller
from memory_operator.errors import SourceUnavailable
from memory_operator.kube.client import open_api
from memory_operator.kube.reviews import access_reviewer, token_reviewer

CALLER = Caller("system:serviceaccount:agents:app", ("system:authenticated",), "1", {"key": ("a", "b")})


def authenticated(**status: Any) -> dict[str, Any]:
    return {"kind": "TokenReview", "status": status}


async def test_a_valid_token_is_its_user(api_server: Any, tmp_path: Path) -> None:
    user = {"username": CALLER.username, "groups": list(CALLER.groups), "uid": "1", "extra": {"key": ["a", "b"]}}
    api_server.answers = [(201, authenticated(authenticated=True, user=user))]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        assert await token_reviewer(api)("a-token") == CALLER
    method, path, _, body = api_server.requests[0]
    assert (method, path) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
    assert body["spec"] == {"token": "a-token"}


@pytest.mark.parametrize(
    "status",
    [
        {"user": {}},
        {"authenticated": False, "user": {"username": "x"}},
        {"authenticated": True, "user": {}},
        {"authenticated": True},
        {"authenticated": "true", "user": {"username": "x"}},
        {"error": "expired"},
    ],
)
async def test_anything_less_than_authenticated_with_a_name_is_nobody(
    api_server: Any, tmp_path: Path, status: dict[str, Any]
) -> None:
    api_server.answers = [(201, authenticated(**status))]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        assert await token_reviewer(api)("a-token") is None


async def test_an_empty_token_is_nobodys_and_is_not_asked_about(api_server: Any, tmp_path: Path) -> None:
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        assert await token_reviewer(api)("") is None
    assert api_server.requests == []


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        ({"allowed": True}, True),
        ({"allowed": False}, False),
        ({}, False),
        ({"allowed": True, "denied": True}, False),
    ],
)
async def test_only_a_plain_yes_allows(api_server: Any, tmp_path: Path, status: Any, allowed: bool) -> None:
    api_server.answers = [(201, {"status": status})]
    access = Access("create", "providers", "consent", "agents", "memory")
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        assert await access_reviewer(api)(CALLER, access) is allowed
    spec = api_server.requests[0][3]["spec"]
    assert spec["user"] == CALLER.username
    assert spec["extra"] == {"key": ["a", "b"]}
    assert spec["resourceAttributes"] == {
        "verb": "create", "group": "omnia.altairalabs.ai", "resource": "providers", "subresource": "consent",
        "namespace": "agents", "name": "memory",
    }  # fmt: skip


@pytest.mark.parametrize("answer", [(500, {}), (403, {}), (201, {}), (201, "no json")])
async def test_an_api_server_in_trouble_neither_allows_nor_denies(api_server: Any, tmp_path: Path, answer: Any) -> None:
    api_server.answers = [answer]
    async with open_api(api_server.kubeconfig(tmp_path)) as api:
        with pytest.raises(SourceUnavailable) as raised:
            await token_reviewer(api)("hush-token")
        with pytest.raises(SourceUnavailable):
            await access_reviewer(api)(CALLER, Access("get", "memories"))
    assert "hush" not in str(raised.value)
