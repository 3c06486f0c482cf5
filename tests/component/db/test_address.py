"""Where the database is may change while processes run: a Secret is rotated under them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from memory_operator.errors import ConfigurationError, StoreUnavailable
from memory_operator.store.db.address import DatabaseAddress
from memory_operator.store.db.migrate import migrate
from memory_operator.store.db.pool import open_store


async def set_password(database_url: str, role: str, password: str) -> None:
    conn = await asyncpg.connect(database_url)
    try:
        exists = await conn.fetchval("select exists (select from pg_roles where rolname = $1)", role)
        await conn.execute(f"{'alter' if exists else 'create'} role {role} login superuser password '{password}'")
    finally:
        await conn.close()


def url_of(database_url: str, role: str, password: str) -> str:
    parts = urlsplit(database_url)
    return f"postgresql://{role}:{quote(password)}@{parts.hostname}:{parts.port}{parts.path}"


async def test_a_rotated_password_is_used_as_soon_as_the_file_holds_it(empty_database_url: str, tmp_path: Path) -> None:
    role, file = "rotated_role", tmp_path / "url"
    await set_password(empty_database_url, role, "first")
    file.write_text(url_of(empty_database_url, role, "first") + "\n")
    address = DatabaseAddress(file=file)
    await migrate(address)
    async with await open_store(address, application="test", max_size=2) as store:
        file.write_text(url_of(empty_database_url, role, "second"))
        async with store.dedicated("before the server knows the new one") as conn:
            assert await conn.fetchval("select 1") == 1
        await set_password(empty_database_url, role, "second")
        async with store.dedicated("after") as conn, store.connection() as first, store.connection() as another:
            assert [await each.fetchval("select 1") for each in (conn, first, another)] == [1, 1, 1]
        file.unlink()  # for a moment, while a mounted Secret is replaced
        async with store.dedicated("meanwhile") as conn:
            assert await conn.fetchval("select 1") == 1


async def test_a_password_that_never_worked_is_told_as_such(empty_database_url: str, tmp_path: Path) -> None:
    role, file = "refused_role", tmp_path / "url"
    await set_password(empty_database_url, role, "right")
    file.write_text(url_of(empty_database_url, role, "wr0ng"))
    with pytest.raises(StoreUnavailable, match="refuses the login") as caught:
        await migrate(DatabaseAddress(file=file))
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (DatabaseAddress(), "no database URL is given"),
        (DatabaseAddress("postgresql://h/d", Path("/f")), "given twice"),
        (DatabaseAddress(file=Path("/nowhere/url")), "/nowhere/url with the database URL cannot be read"),
        (DatabaseAddress("mysql://h/d"), "cannot be read"),
    ],
)
async def test_an_address_that_cannot_be_used_is_refused(address: DatabaseAddress, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        await open_store(address, application="test")
