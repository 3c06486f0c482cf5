"""Encryption of what users wrote: a data key for each tenant, wrapped by one master key.

    master key (a file or a Secret) ─wraps→ data key of a tenant ─seals→ texts, inputs, summaries, metadata
                                                                └derives→ key of the content hash

What it is for: a dump or a backup without the master key yields no original. The full-text index and the
embeddings do leak content. A sealed value is bound to its place (tenant, memory, version, field), so that one
cannot be moved to another row unnoticed.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from memory_operator.errors import ConfigurationError, Permanent

KEY_BYTES = 32

Field = Literal["chunk", "input", "summary", "metadata"]

_FORMAT = b"\x01"
"""First byte of every sealed value: AES-256-GCM, 12 bytes of random nonce, ciphertext with its tag."""

_NONCE_BYTES = 12
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_CHECK_TEXT = b"memory-operator key check"


class Undecryptable(Permanent):
    """A stored value cannot be decrypted: it was changed, or sealed with another key."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value belongs."""

    canonical_id: UUID
    version_no: int
    field: Field
    ordinal: int = 0
    """Number of the chunk; 0 for other fields."""

    def bound_to(self, tenant: str) -> bytes:
        """The associated data of encryption. The tenant comes last: it alone may hold any character."""
        return f"{self.canonical_id}|{self.version_no}|{self.field}|{self.ordinal}|{tenant}".encode()


class DataKey:
    """The key of one tenant."""

    __slots__ = ("_aead", "_hash_key", "tenant")

    def __init__(self, tenant: str, key: bytes) -> None:
        self.tenant = tenant
        self._aead = AESGCM(key)
        self._hash_key = _derive(key, "content hash")

    def __repr__(self) -> str:
        return f"DataKey(tenant={self.tenant!r})"

    def seal(self, text: str, place: Place) -> bytes:
        """Encrypt a text for one place."""
        return _seal(self._aead, text.encode(), place.bound_to(self.tenant))

    def open(self, sealed: bytes, place: Place) -> str:
        """Decrypt what `seal` made for the same place. Raises Undecryptable."""
        return _open(self._aead, sealed, place.bound_to(self.tenant)).decode()

    def content_hash(self, text: str) -> bytes:
        """HMAC-SHA256 (32 bytes): equal for equal texts of one tenant, unrelated between tenants."""
        return hmac.digest(self._hash_key, text.encode(), "sha256")


class MasterKey:
    """The key that wraps the tenants' keys. Every process of one store has the same."""

    __slots__ = ("_check", "_proof_key", "_wrap", "fingerprint")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ConfigurationError(f"the master key has {len(key)} bytes where {KEY_BYTES} are needed")
        self._wrap = AESGCM(_derive(key, "tenant key wrap"))
        self._check = AESGCM(_derive(key, "key check"))
        self._proof_key = _derive(key, "credential proof")
        self.fingerprint = _derive(key, "fingerprint", length=8).hex()
        """Short public name of the key, which says nothing about it."""

    def __repr__(self) -> str:
        return f"MasterKey(fingerprint={self.fingerprint})"

    def new_tenant_key(self, tenant: str) -> bytes:
        """Make a tenant's data key; wrapped, as it is stored."""
        return _seal(self._wrap, os.urandom(KEY_BYTES), tenant.encode())

    def unwrap(self, tenant: str, wrapped: bytes) -> DataKey:
        """The data key of a tenant from its wrapped form. Raises Undecryptable."""
        return DataKey(tenant, _open(self._wrap, wrapped, tenant.encode()))

    def credential_proof(self, credential: str) -> bytes:
        """HMAC by which a credential is recognised without being stored."""
        return hmac.digest(self._proof_key, credential.encode(), "sha256")

    def check_value(self) -> bytes:
        """What a store keeps to recognise this key."""
        return _seal(self._check, _CHECK_TEXT, b"")

    def made(self, check_value: bytes) -> bool:
        """Whether a check value was made with this key."""
        try:
            return _open(self._check, check_value, b"") == _CHECK_TEXT
        except Undecryptable:
            return False


def decode_key(content: bytes) -> bytes:
    """The key in a file's content: 32 raw bytes, or the same as hex or base64 text, blanks around it ignored.

    Raises ConfigurationError.
    """
    if len(content) == KEY_BYTES:
        return content
    text = content.strip()
    if re.fullmatch(rb"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text.decode())
    if re.fullmatch(rb"[A-Za-z0-9+/_-]{43}=?", text):
        return base64.b64decode(text[:43].translate(_FROM_URL_SAFE) + b"=")
    raise ConfigurationError(
        f"the master key file holds {len(content)} bytes that are no {KEY_BYTES}-byte key",
        hint="make one with: openssl rand -base64 32",
    )


def _derive(key: bytes, purpose: str, length: int = KEY_BYTES) -> bytes:
    return HKDF(SHA256(), length=length, salt=None, info=f"memory-operator {purpose}".encode()).derive(key)


def _seal(aead: AESGCM, plain: bytes, bound_to: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return _FORMAT + nonce + aead.encrypt(nonce, plain, bound_to)


def _open(aead: AESGCM, sealed: bytes, bound_to: bytes) -> bytes:
    start = len(_FORMAT) + _NONCE_BYTES
    if sealed[: len(_FORMAT)] != _FORMAT:
        raise Undecryptable(hint="this release does not know how the value was sealed")
    try:
        return aead.decrypt(sealed[len(_FORMAT) : start], sealed[start:], bound_to)
    except (InvalidTag, ValueError) as error:
        raise Undecryptable(hint="restore the row, or the database, from a backup") from error
