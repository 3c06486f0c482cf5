"""Where the database is and how one logs in there: a URL that was given, or a file that may change while we run.

A mounted Secret is such a file: when its password is rotated, connections that are open stay, and new ones use what the
file holds by then; for as long as the server does not know the new password yet, the one that worked last.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from memory_operator.errors import ConfigurationError

_URL_FORM = "it has the form postgresql://user:password@host:5432/database"
_MAX_FILE_BYTES = 4_096


class DatabaseAddress:
    """A database URL, or the file that holds it. Never shows either's content."""

    def __init__(self, url: str = "", file: Path | None = None) -> None:
        """Give one of the two; `check` says so otherwise."""
        self._url = url
        self._file = file
        self._worked = ""

    async def connect(self, *_: object, **options: Any) -> asyncpg.Connection:
        """A new connection, by `asyncpg.connect` and its options. Raises what that raises, and ConfigurationError."""
        newest = self._read()
        try:
            connection: asyncpg.Connection = await asyncpg.connect(newest, **options)
        except asyncpg.InvalidAuthorizationSpecificationError:
            if self._worked in ("", newest):
                raise
            connection = await asyncpg.connect(self._worked, **options)
        else:
            self._worked = newest
        return connection

    def check(self) -> None:
        """Raise ConfigurationError for a URL that cannot be read, without showing it: it holds a password."""
        if bool(self._url) == (self._file is not None):
            raise ConfigurationError(
                "the database URL is given twice" if self._url else "no database URL is given",
                hint="give either --database-url or --database-url-file",
            )
        url = self._read()
        try:
            readable = urlsplit(url).scheme in ("postgresql", "postgres") and urlsplit(url).port != 0
        except ValueError:
            readable = False
        if not readable:
            raise ConfigurationError("the database URL cannot be read", hint=_URL_FORM)

    def _read(self) -> str:
        if self._file is None:
            return self._url
        try:
            with self._file.open() as file:
                return file.read(_MAX_FILE_BYTES).strip()
        except (OSError, UnicodeDecodeError) as error:
            if self._worked:  # a Secret that is being replaced; what worked may work once more
                return self._worked
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigurationError(
                f"the file {self._file} with the database URL cannot be read ({reason})"
            ) from error
