"""Auth mode `kubernetes`: what the API server says of a token, kept for a while."""

from __future__ import annotations

import pytest

from fixtures.reviews import ApiServer
from memory_operator.engine.ports.access import Access
from memory_operator.errors import SourceUnavailable
from memory_operator.http.auth.base import CONSENT, READ_MEMORIES
from memory_operator.http.auth.kubernetes import DENIED_SECONDS, GRANTED_SECONDS, KEPT
from memory_operator.http.problems import Problem

from .conftest import request


@pytest.fixture
def server() -> ApiServer:
    server = ApiServer()
    server.user("agent-token", "system:serviceaccount:agents:crawler")
    server.user("human-token", "jane@example.com")
    return server


async def test_the_tenant_of_a_service_account_is_its_namespace(server: ApiServer) -> None:
    identity = await server.auth().identify(request(authorization="Bearer agent-token"))
    assert (identity.tenant, identity.namespace) == ("agents", "agents")
    assert identity.name == "system:serviceaccount:agents:crawler"


async def test_anybody_else_is_a_tenant_of_their_own_without_a_namespace(server: ApiServer) -> None:
    identity = await server.auth().identify(request(authorization="Bearer human-token"))
    assert (identity.tenant, identity.namespace) == ("user:jane@example.com", None)


async def test_a_right_is_asked_for_in_the_words_of_rbac(server: ApiServer) -> None:
    auth = server.auth()
    identity = await auth.identify(request(authorization="Bearer agent-token"))
    server.allow(identity.name, CONSENT, "memory")
    assert await auth.may(identity, CONSENT, "memory")
    assert not await auth.may(identity, CONSENT, None)
    assert not await auth.may(identity, READ_MEMORIES, "memory")
    assert server.access_asked[0] == Access("create", "providers", "consent", "memory")


async def test_what_was_granted_is_kept_for_a_minute_and_what_was_denied_for_ten_seconds(server: ApiServer) -> None:
    auth = server.auth()

    async def ask(token: str, right_in: str) -> None:
        try:
            identity = await auth.identify(request(authorization=f"Bearer {token}"))
            await auth.may(identity, CONSENT, right_in)
        except Problem:
            pass

    server.allow("jane@example.com", CONSENT, "memory")
    for _ in range(3):
        await ask("human-token", "memory")
        await ask("human-token", "elsewhere")
        await ask("stranger", "memory")
    assert (server.tokens_asked, len(server.access_asked)) == (["human-token", "stranger"], 2)
    server.now += DENIED_SECONDS
    await ask("human-token", "memory")
    await ask("human-token", "elsewhere")
    await ask("stranger", "memory")
    assert (server.tokens_asked[2:], len(server.access_asked)) == (["stranger"], 3)
    server.now += GRANTED_SECONDS - DENIED_SECONDS
    await ask("human-token", "memory")
    assert server.tokens_asked[3:] == ["human-token"]
    assert len(server.access_asked) == 4


async def test_one_caller_never_gets_what_was_granted_to_another(server: ApiServer) -> None:
    auth = server.auth()
    server.allow("jane@example.com", CONSENT, "memory")
    jane = await auth.identify(request(authorization="Bearer human-token"))
    agent = await auth.identify(request(authorization="Bearer agent-token"))
    assert await auth.may(jane, CONSENT, "memory")
    assert not await auth.may(agent, CONSENT, "memory")


async def test_an_api_server_that_is_down_is_neither_a_yes_nor_a_no_and_is_not_remembered(server: ApiServer) -> None:
    auth = server.auth()
    server.down = True
    with pytest.raises(SourceUnavailable):
        await auth.identify(request(authorization="Bearer human-token"))
    server.down = False
    assert await auth.identify(request(authorization="Bearer human-token"))


async def test_no_token_is_refused_without_asking(server: ApiServer) -> None:
    with pytest.raises(Problem) as refusal:
        await server.auth().identify(request())
    assert refusal.value.status == 401
    assert server.tokens_asked == []


async def test_strangers_cannot_make_it_remember_without_end(server: ApiServer) -> None:
    auth = server.auth()
    for number in range(KEPT + 10):
        with pytest.raises(Problem):
            await auth.identify(request(authorization=f"Bearer {number}"))
    with pytest.raises(Problem):
        await auth.identify(request(authorization="Bearer 0"))
    assert server.tokens_asked[-1] == "0"


async def test_neither_identity_nor_its_repr_holds_the_token(server: ApiServer) -> None:
    identity = await server.auth().identify(request(authorization="Bearer human-token"))
    assert "human-token" not in repr(identity)
    assert identity.token_digest not in (b"", b"human-token")
    assert repr(identity.token_digest) not in repr(identity)
