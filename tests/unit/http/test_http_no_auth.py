"""Auth mode `none`: for programs on this machine, never for pages in a browser."""

from __future__ import annotations

import pytest

from memory_operator.errors import ConfigurationError
from memory_operator.http.auth.base import CONSENT, Authenticator
from memory_operator.http.auth.none import no_auth
from memory_operator.http.problems import Problem

from .conftest import request


@pytest.fixture
def auth() -> Authenticator:
    return no_auth("127.0.0.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_it_is_for_an_api_that_listens_on_loopback(host: str) -> None:
    no_auth(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "memory.example", "", "localhost.example"])
def test_it_refuses_an_api_that_listens_elsewhere(host: str) -> None:
    with pytest.raises(ConfigurationError, match="loopback") as refusal:
        no_auth(host)
    assert "--auth-mode" in refusal.value.hint


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "LocalHost:80", "[::1]:8080"])
def test_a_request_to_a_loopback_name_passes(auth: Authenticator, host: str) -> None:
    auth.screen({"host": host})
    auth.screen({"host": host, "origin": f"http://{host}"})


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost@evil.example", "10.0.0.1", "", "[::1"],
)
def test_a_request_to_a_foreign_name_is_refused_however_it_got_here(auth: Authenticator, host: str) -> None:
    with pytest.raises(Problem) as refusal:
        auth.screen({"host": host})
    assert (refusal.value.status, refusal.value.code) == (403, "foreign_host")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1:8080",
        "http://127.0.0.1:3000",
        "http://localhost:8080",
        "null",
        "",
        "http://127.0.0.1:8080.evil.example",
    ],
)
def test_a_page_of_another_origin_is_refused(auth: Authenticator, origin: str) -> None:
    with pytest.raises(Problem) as refusal:
        auth.screen({"host": "127.0.0.1:8080", "origin": origin})
    assert (refusal.value.status, refusal.value.code) == (403, "foreign_origin")


async def test_everybody_here_is_the_one_tenant_and_may_do_everything(auth: Authenticator) -> None:
    identity = await auth.identify(request(host="127.0.0.1"))
    assert identity.tenant == "default"
    assert await auth.may(identity, CONSENT, None)
