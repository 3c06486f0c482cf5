import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from memory_operator.dev.folder import FolderLock, prepare_folder, write_private
from memory_operator.errors import ConfigurationError

HOLD = (
    "import sys; from pathlib import Path; from memory_operator.dev.folder import FolderLock\n"
    "lock = FolderLock(Path(sys.argv[1])); lock.acquire(); print('locked', flush=True); sys.stdin.read()"
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_lets_nobody_else_list_it(tmp_path):
    made = prepare_folder(tmp_path / "a" / "b")

    assert mode(made) == (0o711 if os.geteuid() == 0 else 0o700)


def test_the_mode_of_a_folder_that_exists_is_left_alone(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o750)

    prepare_folder(folder)

    assert mode(folder) == 0o750


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="file is not a folder"):
        prepare_folder(tmp_path / "file")


def test_a_file_on_the_way_to_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match=str(tmp_path / "file")):
        prepare_folder(tmp_path / "file" / "data")


def test_a_private_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "secret"
    write_private(path, "one")
    write_private(path, "two")

    assert (path.read_text(), mode(path)) == ("two", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_process_is_told_which_one_has_the_folder(tmp_path):
    with (
        subprocess.Popen(
            [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder,
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"

        with pytest.raises(ConfigurationError, match=rf"another memory-operator dev \(process {holder.pid}\)"):
            FolderLock(tmp_path).acquire()
        holder.communicate(timeout=10)


def test_a_killed_process_leaves_no_lock_behind(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=10)

    with FolderLock(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_released_folder_can_be_locked_again(tmp_path):
    with FolderLock(tmp_path), pytest.raises(ConfigurationError, match=str(os.getpid())):
        FolderLock(tmp_path).acquire()

    with FolderLock(tmp_path):
        pass
