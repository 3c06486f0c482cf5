"""Whose memories these are: the master key that a store was made with, tenants with their keys, projects."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from memory_operator.errors import ConfigurationError, InvalidInput
from memory_operator.memory.encryption import DataKey, MasterKey, Place
from memory_operator.store.db.pool import Conn, Store

TENANTS_KEPT = 4_096
"""Data keys that a process keeps in memory, the last used ones."""

PROJECTS_KEPT = 65_536

_AT_A_TIME = 250
"""Texts decrypted before the event loop has its turn."""

_NAME_CHARS = 253
"""Longest name of a tenant or project."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant, with the key that opens what it wrote."""

    id: int
    key: DataKey

    @property
    def name(self) -> str:
        """Its name, which does not change."""
        return self.key.tenant


class SealedChunk(Protocol):
    """A chunk as it is stored, with what says where its text belongs."""

    @property
    def text(self) -> bytes:
        """The sealed text."""

    @property
    def ordinal(self) -> int:
        """Number of the chunk in its version."""

    @property
    def canonical_id(self) -> UUID:
        """The memory."""

    @property
    def version_no(self) -> int:
        """The version."""

    @property
    def tenant(self) -> str:
        """Name of the tenant."""


_STORE_KEY = """
insert into memory_store (key_fingerprint, key_check) values ($1, $2) on conflict (singleton) do nothing
"""

_READ_KEY = """select key_fingerprint, key_check from memory_store"""


async def stored_fingerprint(conn: Conn) -> str | None:
    """Fingerprint of the master key that this store was made with; None of a store that has none yet."""
    return next((str(row["key_fingerprint"]) for row in await conn.fetch(_READ_KEY)), None)


async def check_or_store_key(conn: Conn, master: MasterKey) -> None:
    """Refuse a master key that this store was not made with; the first process to start stores what tells.

    Every process calls this before anything else. Raises ConfigurationError, naming both fingerprints.
    """
    await conn.execute(_STORE_KEY, master.fingerprint, master.check_value())
    await check_key(conn, master)


async def check_key(conn: Conn, master: MasterKey) -> None:
    """Refuse a master key that this store was not made with. Raises ConfigurationError, naming both fingerprints."""
    row = await conn.fetchrow(_READ_KEY)
    if row is None:
        raise ConfigurationError("this database has no master key yet", hint="start the operator or the API once")
    if row["key_fingerprint"] != master.fingerprint:
        raise ConfigurationError(
            f"this database was made with the master key {row['key_fingerprint']}, and the key given is"
            f" {master.fingerprint}",
            hint="start with the file or Secret that holds the first key: without it no memory can be read",
        )
    if not master.made(row["key_check"]):
        raise ConfigurationError(
            f"the check value that this database keeps for the master key {master.fingerprint} is damaged",
            hint="restore the row of memory_store from a backup",
        )


_MAKE_TENANT = """
insert into memory_tenants (name, wrapped_key) values ($1, $2) on conflict (name) do nothing
"""

_MAKE_PROJECT = """
insert into memory_projects (tenant_id, slug) values ($1, $2)
on conflict (tenant_id, slug) do nothing
"""

_READ_TENANT = """select id, wrapped_key from memory_tenants where name = $1"""

_READ_PROJECT = """select id from memory_projects where tenant_id = $1 and slug = $2"""


class KeyRing:
    """Tenants and projects by name, read once per process. One for each event loop."""

    def __init__(self, master: MasterKey) -> None:
        self._master = master
        self._tenants: _LastUsed[str, Tenant] = _LastUsed(TENANTS_KEPT)
        self._projects: _LastUsed[tuple[int, str], int] = _LastUsed(PROJECTS_KEPT)

    async def check(self, conn: Conn) -> None:
        """Refuse the master key where the store was not made with it. Raises ConfigurationError."""
        await check_key(conn, self._master)

    async def tenant(self, store: Store, name: str) -> Tenant:
        """A tenant, made at its first use. Raises InvalidInput."""
        found = await self.known_tenant(store, name)
        if found is None:
            _check_name("tenant", name)
            async with store.connection() as conn:
                # Of two processes at once one makes the key, and both read it.
                await conn.execute(_MAKE_TENANT, name, self._master.new_tenant_key(name))
                found = await self._read(conn, name)
        if found is None:
            raise LookupError(f"tenant {name} vanished")
        return found

    async def known_tenant(self, store: Store, name: str) -> Tenant | None:
        """A tenant, or None when it has never stored anything."""
        found = self._tenants.get(name)
        if found is None and _is_name(name):
            async with store.connection() as conn:
                found = await self._read(conn, name)
        return found

    async def project(self, store: Store, tenant: Tenant, slug: str) -> int:
        """Id of a tenant's project, made at its first use. Raises InvalidInput.

        Not in the caller's transaction: an id that is rolled back must not be remembered.
        """
        found = await self.known_project(store, tenant, slug)
        if found is None:
            _check_name("project", slug)
            async with store.connection() as conn:
                await conn.execute(_MAKE_PROJECT, tenant.id, slug)
                found = await self._read_project(conn, tenant, slug)
        if found is None:
            raise LookupError(f"project {slug} vanished")
        return found

    async def known_project(self, store: Store, tenant: Tenant, slug: str) -> int | None:
        """Id of a tenant's project, or None when nothing was ever stored in it."""
        found = self._projects.get((tenant.id, slug))
        if found is None and _is_name(slug):
            async with store.connection() as conn:
                found = await self._read_project(conn, tenant, slug)
        return found

    async def chunk_texts(self, store: Store, chunks: Sequence[SealedChunk]) -> list[str]:
        """The texts of stored chunks, in their order. Raises Undecryptable."""
        keys = await self._keys(store, {chunk.tenant for chunk in chunks})
        texts: list[str] = []
        for start in range(0, len(chunks), _AT_A_TIME):
            texts += [
                keys[chunk.tenant].open(chunk.text, Place(chunk.canonical_id, chunk.version_no, "chunk", chunk.ordinal))
                for chunk in chunks[start : start + _AT_A_TIME]
            ]
            await asyncio.sleep(0)  # heartbeats and replies have their turn
        return texts

    async def _keys(self, store: Store, names: Iterable[str]) -> dict[str, DataKey]:
        return {name: (await self.tenant(store, name)).key for name in names}

    async def _read(self, conn: Conn, name: str) -> Tenant | None:
        row = await conn.fetchrow(_READ_TENANT, name)
        if row is None:
            return None
        found = Tenant(row["id"], self._master.unwrap(name, row["wrapped_key"]))
        self._tenants.put(name, found)
        return found

    async def _read_project(self, conn: Conn, tenant: Tenant, slug: str) -> int | None:
        found = await conn.fetchval(_READ_PROJECT, tenant.id, slug)
        if found is None:
            return None
        self._projects.put((tenant.id, slug), int(found))
        return int(found)


class _LastUsed(Generic[K, V]):
    """A bounded cache that forgets what was not used for longest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """What was put under a key, or None."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        """Remember a value."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _NAME_CHARS and name.isprintable()


def _check_name(what: str, name: str) -> None:
    if not _is_name(name):
        raise InvalidInput(
            f"the name of a {what} has 1 to {_NAME_CHARS} printable characters", hint=f"choose another {what}"
        )
