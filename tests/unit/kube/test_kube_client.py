"""Who we are to an API server: a pod's ServiceAccount, or one kubeconfig that was named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.waiting import until
from memory_operator.errors import ConfigurationError, SourceUnavailable
from memory_operator.kube.boundary import read_path
from memory_operator.kube.client import Pod, configure, namespace_of, open_api


async def test_without_a_kubeconfig_an_ambient_one_is_not_read(
    api_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig(tmp_path)))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match="not in a pod"):
        async with open_api(None, pod=Pod(tmp_path / "nowhere")):
            pass


async def test_a_pod_uses_its_token_its_ca_and_the_address_in_its_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("pod-token\n")
    (tmp_path / "ca.crt").write_text("a certificate")
    (tmp_path / "namespace").write_text("agents\n")
    pod = Pod(tmp_path, {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"})
    configuration = await configure(None, pod=pod)
    assert configuration.host == "https://[fd00::1]:443"
    assert configuration.ssl_ca_cert == str(tmp_path / "ca.crt")
    assert await configuration.get_api_key_with_prefix("BearerToken") == "bearer pod-token"
    assert namespace_of(None, pod=pod) == "agents"


async def test_the_environment_of_a_pod_is_not_in_its_repr() -> None:
    assert "hush" not in repr(Pod(environment={"KEY": "hush"}))


async def test_a_kubeconfig_of_certificates_needs_no_token(api_server: Any, tmp_path: Path) -> None:
    api_server.answers = [(200, {})]
    async with open_api(api_server.kubeconfig(tmp_path, username="nobody")) as api:
        assert await read_path(api, "/version") == {}
    assert "Authorization" not in api_server.requests[0][2]


async def test_a_token_file_that_was_renewed_is_read_again(api_server: Any, tmp_path: Path) -> None:
    api_server.answers = [(200, {})]
    token = tmp_path / "token"
    token.write_text("first\n")
    async with open_api(api_server.kubeconfig(tmp_path, tokenFile=str(token)), token_seconds=0) as api:
        await read_path(api, "/version")
        token.write_text("second\n")
        await read_path(api, "/version")
    assert [headers["Authorization"] for _, _, headers, _ in api_server.requests] == [
        "Bearer first",
        "Bearer second",
    ]


async def test_a_token_that_was_refused_is_read_again_before_its_time(api_server: Any, tmp_path: Path) -> None:
    api_server.answers = [(401, {}), (200, {})]
    token = tmp_path / "token"
    token.write_text("first")
    async with open_api(api_server.kubeconfig(tmp_path, tokenFile=str(token)), token_seconds=3600) as api:
        with pytest.raises(SourceUnavailable):
            await read_path(api, "/version")
        token.write_text("second")

        async def second_is_used() -> bool:
            await read_path(api, "/version")
            return bool(api_server.requests[-1][2]["Authorization"] == "Bearer second")

        await until(second_is_used, "the new token is used")


async def test_a_token_file_that_vanished_leaves_the_token_at_hand(api_server: Any, tmp_path: Path) -> None:
    api_server.answers = [(200, {})]
    token = tmp_path / "token"
    token.write_text("first")
    async with open_api(api_server.kubeconfig(tmp_path, tokenFile=str(token)), token_seconds=0) as api:
        token.unlink()
        await read_path(api, "/version")
    assert api_server.requests[0][2]["Authorization"] == "Bearer first"


@pytest.mark.parametrize("text", ["", "just words", "current-context: x", "token: [hush", "users: 3"])
async def test_a_file_that_is_no_kubeconfig_is_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        await configure(path)
    assert "kubeconfig cannot be used" in str(raised.value)
    assert "hush" not in str(raised.value)
    with pytest.raises(ConfigurationError):
        namespace_of(path)


async def test_a_kubeconfig_that_does_not_exist_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await configure(tmp_path / "missing")


async def test_the_namespace_is_that_of_the_current_context(api_server: Any, tmp_path: Path) -> None:
    assert namespace_of(api_server.kubeconfig(tmp_path)) == "agents"
