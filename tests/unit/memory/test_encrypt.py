"""Sealed texts, wrapped keys, and the file that the master key is in."""

import base64
import os
import stat
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from memory_operator.errors import ConfigurationError
from memory_operator.memory.encryption import DataKey, MasterKey, Place, Undecryptable, decode_key
from memory_operator.memory.keyfile import generate_master_key, read_master_key

MEMORY = UUID("00000000-0000-4000-8000-000000000001")
PLACE = Place(MEMORY, 1, "chunk", 2)


def tenant_key(master: MasterKey, tenant: str = "agents") -> DataKey:
    return master.unwrap(tenant, master.new_tenant_key(tenant))


def test_what_was_sealed_for_a_place_is_opened_there() -> None:
    key = tenant_key(MasterKey(os.urandom(32)))
    sealed = key.seal("naïve text", PLACE)
    assert key.open(sealed, PLACE) == "naïve text"
    assert b"text" not in sealed
    assert sealed != key.seal("naïve text", PLACE)


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, canonical_id=UUID("00000000-0000-4000-8000-000000000002")),
        replace(PLACE, version_no=2),
        replace(PLACE, field="input"),
        replace(PLACE, ordinal=3),
    ],
)
def test_a_sealed_text_cannot_be_moved_to_another_place(elsewhere: Place) -> None:
    key = tenant_key(MasterKey(os.urandom(32)))
    with pytest.raises(Undecryptable):
        key.open(key.seal("text", PLACE), elsewhere)


def test_a_tenant_cannot_open_what_another_tenant_sealed_even_with_the_same_key_bytes() -> None:
    raw = os.urandom(32)
    with pytest.raises(Undecryptable):
        DataKey("b", raw).open(DataKey("a", raw).seal("text", PLACE), PLACE)


@pytest.mark.parametrize("damaged", [b"", b"\x01", b"\x01short", b"\x02" + bytes(40), b"\x01" + bytes(40)])
def test_a_damaged_value_is_named_as_such(damaged: bytes) -> None:
    with pytest.raises(Undecryptable):
        tenant_key(MasterKey(os.urandom(32))).open(damaged, PLACE)


def test_a_wrapped_key_opens_with_its_own_master_key_and_tenant_only() -> None:
    master = MasterKey(os.urandom(32))
    wrapped = master.new_tenant_key("agents")
    with pytest.raises(Undecryptable):
        MasterKey(os.urandom(32)).unwrap("agents", wrapped)
    with pytest.raises(Undecryptable):
        master.unwrap("others", wrapped)


def test_equal_texts_hash_alike_within_a_tenant_and_differently_between_tenants() -> None:
    master = MasterKey(os.urandom(32))
    one, other = tenant_key(master, "one"), tenant_key(master, "other")
    assert one.content_hash("text") == one.content_hash("text")
    assert one.content_hash("text") != one.content_hash("Text")
    assert one.content_hash("text") != other.content_hash("text")
    assert len(one.content_hash("text")) == 32


def test_the_check_value_knows_its_key() -> None:
    master = MasterKey(os.urandom(32))
    assert master.made(master.check_value())
    assert not MasterKey(os.urandom(32)).made(master.check_value())
    assert not master.made(b"")


def test_no_key_shows_in_a_repr() -> None:
    raw = b"k" * 32
    master = MasterKey(raw)
    assert repr(master) == f"MasterKey(fingerprint={master.fingerprint})"
    assert repr(DataKey("agents", raw)) == "DataKey(tenant='agents')"
    assert master.fingerprint == MasterKey(raw).fingerprint
    assert master.fingerprint not in (raw.hex()[:16], raw.decode()[:16])


@pytest.mark.parametrize(
    "content",
    [
        bytes(range(224, 256)),
        bytes(range(224, 256)).hex().encode() + b"\n",
        base64.b64encode(bytes(range(224, 256))) + b"\n",
        base64.urlsafe_b64encode(bytes(range(224, 256))),
        base64.b64encode(bytes(range(224, 256))).rstrip(b"="),
    ],
    ids=["raw", "hex", "base64", "urlsafe", "unpadded"],
)
def test_a_key_file_may_hold_raw_bytes_hex_or_base64(content: bytes) -> None:
    assert decode_key(content) == bytes(range(224, 256))


@pytest.mark.parametrize("content", [b"", b"secret", bytes(31), b"z" * 64, b"!" * 44, b"a" * 100])
def test_anything_else_is_refused_without_being_shown(content: bytes) -> None:
    with pytest.raises(ConfigurationError) as caught:
        decode_key(content)
    assert "secret" not in caught.value.message
    assert "openssl rand -base64 32" in caught.value.hint


def test_a_generated_key_file_is_private_and_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    made = generate_master_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_master_key(path).fingerprint == made.fingerprint
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    made = generate_master_key(path)
    with pytest.raises(ConfigurationError, match="exists"):
        generate_master_key(path)
    assert read_master_key(path).fingerprint == made.fingerprint
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no\.key"):
        read_master_key(tmp_path / "no.key")
