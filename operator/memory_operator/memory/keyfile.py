"""The file that holds the master key."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from memory_operator.errors import ConfigurationError
from memory_operator.memory.encryption import KEY_BYTES, MasterKey, decode_key

_MAX_FILE_BYTES = 4_096


def read_master_key(path: Path) -> MasterKey:
    """Read a key file: 32 raw bytes, or hex or base64 of them. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigurationError(
            f"the master key file {path} cannot be read ({error.strerror})",
            hint="give the path of a file with 32 bytes as hex or base64: openssl rand -base64 32",
        ) from error
    return MasterKey(decode_key(content))


def generate_master_key(path: Path) -> MasterKey:
    """Make a key in a new file of mode 0600, which appears complete or not at all. Raises ConfigurationError.

    A file that is there already is never overwritten: without it nothing in the store can be read again.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        finally:
            draft.unlink()
    except OSError as error:
        raise ConfigurationError(f"the master key file {path} cannot be made ({error.strerror})") from error
    return read_master_key(path)
