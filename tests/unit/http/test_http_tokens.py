"""Auth mode `tokens`: digests in a file, read again when it changes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory_operator.errors import ConfigurationError
from memory_operator.http.auth.base import CONSENT, READ_MEMORIES
from memory_operator.http.auth.tokens import token_auth
from memory_operator.http.problems import Problem

from .conftest import request

Write = Callable[[Any], Path]


def entry(token: str, *rights: str, name: str = "ci", tenant: str = "agents") -> dict[str, Any]:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return {"name": name, "sha256": digest, "tenant": tenant, "rights": list(rights)}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the tokens file, each time with another time of change."""
    path, when = tmp_path / "tokens.json", [1_000_000_000]

    def written(content: Any) -> Path:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        when[0] += 1
        os.utime(path, (when[0], when[0]))
        return path

    return written


async def test_a_token_is_its_tenant_with_the_rights_that_the_file_gives_it(write: Write) -> None:
    auth = token_auth(write([entry("a", "memories:get"), entry("b", "consent", name="ops", tenant="other")]))
    identity = await auth.identify(request(authorization="Bearer b"))
    assert (identity.name, identity.tenant) == ("ops", "other")
    assert await auth.may(identity, CONSENT, "anywhere")
    assert not await auth.may(identity, READ_MEMORIES, None)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic b", "b", "Bearer c", "Bearer b c"])
async def test_anything_else_is_not_known(write: Write, header: str) -> None:
    auth = token_auth(write([entry("b", "consent")]))
    with pytest.raises(Problem) as refusal:
        await auth.identify(request(authorization=header) if header else request())
    assert refusal.value.status == 401
    assert refusal.value.headers["WWW-Authenticate"] == "Bearer"
    assert refusal.value.hint


async def test_the_digest_is_no_token(write: Write) -> None:
    auth = token_auth(write([entry("b", "consent")]))
    with pytest.raises(Problem):
        await auth.identify(request(authorization=f"Bearer {entry('b')['sha256']}"))


async def test_a_changed_file_counts_from_the_next_request_on(write: Write) -> None:
    auth = token_auth(write([entry("a", "read")]))
    write([entry("b", "read")])
    assert (await auth.identify(request(authorization="Bearer b"))).tenant == "agents"
    with pytest.raises(Problem) as refusal:
        await auth.identify(request(authorization="Bearer a"))
    assert refusal.value.status == 401


@pytest.mark.parametrize("broken", ["[", "{}", '[{"name":"x"}]', "[null]"])
async def test_a_broken_file_lets_nobody_in_until_it_is_mended(
    write: Write, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    auth = token_auth(write([entry("a", "read")]))
    write(broken)
    for _ in range(2):
        with pytest.raises(Problem) as refusal:
            await auth.identify(request(authorization="Bearer a"))
        assert (refusal.value.status, refusal.value.code) == (503, "tokens_unreadable")
        assert "Retry-After" in refusal.value.headers
    assert any(record.levelno == logging.ERROR for record in caplog.records)
    write([entry("a", "read")])
    assert await auth.identify(request(authorization="Bearer a"))


async def test_a_file_that_went_away_lets_nobody_in(write: Write) -> None:
    path = write([entry("a", "read")])
    auth = token_auth(path)
    path.unlink()
    with pytest.raises(Problem) as refusal:
        await auth.identify(request(authorization="Bearer a"))
    assert refusal.value.status == 503


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("nonsense", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([{**entry("a"), "sha256": "abc"}], "sha256"),
        ([{**entry("a"), "rights": ["root"]}], "there is no right 'root'"),
        ([{**entry("a"), "token": "a"}], "token"),
        ([{**entry("a"), "tenant": ""}], "tenant"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_start_and_says_where(write: Write, content: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as refusal:
        token_auth(write(content))
    assert "sha256" in refusal.value.hint


def test_a_secret_that_was_pasted_instead_of_its_digest_is_not_repeated(write: Write) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        token_auth(write([{**entry("a"), "sha256": "hunter2"}]))
    assert "hunter2" not in str(refusal.value)
    assert "hunter2" not in refusal.value.hint


def test_no_file_and_a_missing_one_are_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs a file"):
        token_auth(None)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        token_auth(tmp_path / "none.json")
