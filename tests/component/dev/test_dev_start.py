"""The first lines of `memory-operator dev`, and a master key that is not the store's."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.dev import Dev
from fixtures.postgres import open_quick_folder
from fixtures.waiting import WAIT_SECONDS, eventually

LOCAL = {"type": "local", "model": "wordllama", "embedding": {"dimensions": 64}}


@pytest.fixture
def dev() -> Iterator[Dev]:
    folder = open_quick_folder()
    made = Dev(folder)
    yield made
    made.close()
    shutil.rmtree(folder)


def refused(dev: Dev) -> str:
    """What a start prints that ends by itself."""
    dev.log.write_text("")
    dev.start(wait=False)
    assert dev.process is not None
    assert dev.process.wait(WAIT_SECONDS) != 0
    return dev.log.read_text()


def test_another_master_key_or_none_is_one_message_and_the_store_stays_as_it_is(dev: Dev) -> None:
    dev.start()
    dev.stop()
    key = dev.data / "master.key"
    right = key.read_text()

    key.write_text(base64.b64encode(os.urandom(32)).decode())
    told = refused(dev)
    assert "was made with the master key" in told
    assert told.count("was made with the master key") == 1
    assert "Traceback" not in told

    key.unlink()
    told = refused(dev)
    assert told.count("master.key is missing, and this database was made with the master key") == 1
    assert "Traceback" not in told
    assert not key.exists()

    key.write_text(right)
    dev.start()


def test_the_banner_names_what_is_there(dev: Dev) -> None:
    dev.start()
    eventually(lambda: "memory-operator is ready" in dev.log.read_text(), "the banner")
    told = dev.log.read_text()
    assert f"There is no Provider yet: put a manifest into {dev.providers}" in told
    assert "provider.yaml" not in told
    assert "MEMORY_TOKEN" not in told
    dev.stop()


def test_the_banner_shows_how_to_use_a_token_where_one_is_needed(dev: Dev) -> None:
    tokens = Path(dev.folder / "tokens.json")
    digest = hashlib.sha256(b"word").hexdigest()
    tokens.write_text(json.dumps([{"name": "me", "sha256": digest, "tenant": "default", "rights": ["memories:get"]}]))
    dev.options = ("--auth-mode", "tokens", "--tokens-file", str(tokens))
    dev.apply("memory", LOCAL)
    dev.start()
    eventually(lambda: "memory-operator is ready" in dev.log.read_text(), "the banner")
    told = dev.log.read_text()
    assert f"whose SHA-256 is in {tokens}" in told
    assert 'curl -s -H "Authorization: Bearer $MEMORY_TOKEN"' in told
    assert "sed -i" not in told  # no manifest has 256 dimensions
    dev.stop()


def test_nothing_is_called_ready_that_cannot_listen(dev: Dev) -> None:
    other = Dev(open_quick_folder())
    other.port = dev.port
    dev.start()
    try:
        told = refused(other)
        assert f"cannot listen on 127.0.0.1 port {dev.port}" in told
        assert "is ready" not in told
        assert "Traceback" not in told
    finally:
        other.close()
        shutil.rmtree(other.folder)
