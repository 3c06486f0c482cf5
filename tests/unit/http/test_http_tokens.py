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


async def test_a_revocation_that_keeps_size_and_time_is_noticed(write: Write) -> None:
    path = write([entry("old", "consent")])
    os.utime(path, (1, 1))
    auth = token_auth(path)
    await auth.identify(request(authorization="Bearer old"))
    before = path.stat()
    with path.open("r+") as file:
        file.write(json.dumps([entry("new", "consent")]))
    os.utime(path, (1, 1))
    assert (path.stat().st_size, path.stat().st_mtime, path.stat().st_ino) == (
        before.st_size,
        before.st_mtime,
        before.st_ino,
    )
    with pytest.raises(Problem):
        await auth.identify(request(authorization="Bearer old"))


def test_the_same_token_twice_is_refused_with_its_line(write: Write) -> None:
    twice = [entry("a", "consent", name="first"), entry("b"), entry("a", name="second")]
    twice[2]["sha256"] = twice[2]["sha256"].upper()
    with pytest.raises(ConfigurationError, match=r"line 3 has the same token as line 1"):
        token_auth(write("[" + ",\n".join(json.dumps(each) for each in twice) + "]"))


def test_a_pipe_in_place_of_the_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tokens.json")
    with pytest.raises(ConfigurationError, match="not a regular file"):
        token_auth(tmp_path / "tokens.json")


@pytest.mark.parametrize("field", ["name", "tenant"])
def test_a_name_that_no_database_stores_is_refused_at_load(write: Write, field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"0.{field}: control characters"):
        token_auth(write([{**entry("a"), field: "a\x00b"}]))


def test_a_broken_file_is_told_in_our_words(write: Write) -> None:
    with pytest.raises(ConfigurationError, match="64 hexadecimal digits") as refusal:
        token_auth(write([{**entry("a"), "sha256": "abc"}]))
    assert "pattern" not in refusal.value.message
    with pytest.raises(ConfigurationError, match="line 2 is not JSON"):
        token_auth(write("[\n{"))
