"""The folder that `dev` keeps everything in: made, locked by one process at a time, written atomically."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from memory_operator.errors import ConfigurationError

_LEFTOVER = ".memory-operator"


def prepare_folder(folder: Path, *, option: str = "--data") -> Path:
    """Make the folder when it is missing and return its real path. The mode of one that exists stays as it is.

    `option` is the command's option that names it. Raises ConfigurationError naming the folder that is in the way.
    """
    another = f"give another folder with {option}"
    # Root's database server runs as another user, who must be able to traverse the folder, not to list it.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=mode)
        real = folder.resolve(strict=True)
    except OSError as error:
        raise ConfigurationError(
            f"the folder {folder} cannot be made: {error.strerror}: {error.filename}",
            hint=another,
        ) from error
    if not real.is_dir():
        raise ConfigurationError(f"{folder} is not a folder", hint=another)
    if not os.access(real, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"the folder {folder} cannot be written: it belongs to user id {real.stat().st_uid}",
            hint=f"run as that user, or {another}",
        )
    return real


def write_private(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace a file in one step, durably: readers see the old text or the new one, also after a power cut.

    A file that root writes into somebody's folder belongs to the folder's owner, who may come back without root.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            give_to_owner_of(path.parent, file.fileno())
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_unchanged(path: Path, before: bytes, after: bytes) -> bool:
    """Replace a file in one step, durably, with mode, owner and attributes as they are; False where it has changed.

    Raises OSError, also for a file that nobody may write, in a folder where one may: it was left so on purpose.
    """
    status = path.stat()
    if not status.st_mode & 0o222 or not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_LEFTOVER, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(after)
            file.flush()
            own = os.fstat(file.fileno())
            if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            shutil.copystat(path, temporary)
            os.utime(temporary)
            os.fsync(file.fileno())
        if path.read_bytes() != before:
            return False
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def remove_leftovers(path: Path) -> None:
    """Remove what `replace_unchanged` leaves of itself where its process is killed."""
    with contextlib.suppress(OSError):
        for leftover in path.resolve().parent.glob(f".{path.resolve().name}.*{_LEFTOVER}"):
            leftover.unlink()


def give_to_owner_of(folder: Path, descriptor: int) -> None:
    """As root, hand an open file to the owner of the folder that it is in; as anybody else, nothing."""
    if os.geteuid() == 0:
        owner = folder.stat()
        if owner.st_uid != 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FolderLock:
    """One process's lock on a data folder, as a context. The kernel releases it however the process ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Lock the folder, making it when it is missing. Never waits.

        Raises ConfigurationError with the process id of the `dev` that has it.
        """
        real = prepare_folder(self._folder)
        path = real / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be opened: {error.strerror}", hint="run as the user that the folder belongs to"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise ConfigurationError(
                f"{self._folder} is in use by another memory-operator dev (process {holder or 'unknown'})",
                hint="stop that one, or give another folder with --data",
            ) from error
        give_to_owner_of(real, descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
