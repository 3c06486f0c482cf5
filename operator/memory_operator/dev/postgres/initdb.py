"""How a PostgreSQL of ours is made and started: by `dev` on one machine, by operator/image/memory-postgres in a pod.

Imports nothing of ours and nothing but the standard library: the image has this file alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

ADMINISTRATOR = "postgres"
"""The superuser: makes the database and the extension, and is not used after that."""

SETTINGS: Mapping[str, str] = {
    "max_connections": "100",
    # Compiling a plan takes longer than any query of ours runs.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "logging_collector": "off",
}
"""Settings of every server, on its command line, so that a new release's values hold for an old database too."""

MAKE_DATABASE = r"""
\getenv new_password NEW_PASSWORD
-- A statement that fails must not end in the server's log with a password in it.
set log_min_error_statement = panic;
select format('create role %I login password %L', :'role', :'new_password')
where not exists (select from pg_roles where rolname = :'role') \gexec
select format('create database %I owner %I', :'database', :'role')
where not exists (select from pg_database where datname = :'database') \gexec
\connect :database
set client_min_messages = warning;
create extension if not exists vector;
"""
"""For psql: what is missing of role, database and extension. The role's password is in NEW_PASSWORD."""


def initdb_command(
    initdb: str, data: str, *authentication: str, major: int = 18, character_type: str = "C.UTF-8"
) -> list[str]:
    """What makes a new data directory; `authentication` are initdb's own options for it."""
    command = [
        *(initdb, "-D", data, "-U", ADMINISTRATOR, *authentication),
        *("--encoding=UTF8", "--no-instructions", "--data-checksums", "--text-search-config=english"),
        # Full-text search asks the C library what a letter is.
        *("--locale=C", f"--lc-ctype={character_type}"),
    ]
    if major >= 17:
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return command


def server_command(postgres: str, data: str, settings: Mapping[str, str]) -> list[str]:
    """What starts the server; `settings` go over SETTINGS."""
    command = [postgres, "-D", data]
    for name, value in {**SETTINGS, **settings}.items():
        command += ["-c", f"{name}={value}"]
    return command


def psql_command(psql: str, role: str, database: str, connection: Iterable[str] = ()) -> list[str]:
    """What runs statements as the superuser, with `:role` and `:database` in them; it ends at the first error."""
    return [
        *(psql, "-XAtq", *connection, "-U", ADMINISTRATOR, "-d", "postgres", "-v", "ON_ERROR_STOP=1"),
        *("-v", f"role={role}", "-v", f"database={database}"),
    ]
