"""A configuration file that commands write into stays the file of the person who wrote it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from fixtures.postgres import open_folder
from fixtures.waiting import eventually
from memory_operator.dev.config.rewrite import ConfigFile
from memory_operator.dev.folder import remove_leftovers, replace_unchanged
from memory_operator.errors import Conflict

TEXT = """\
# My memories
[service]
port = 7033          # as ever

[embeddings]
active = "voyage-code"   # the better one
# Off for now:
# enabled = false

[[embeddings.backends]]
name = "openai-3-small"
provider = "openai"
model = "text-embedding-3-small" # cheap
# dimensions = 512

[[embeddings.backends]]
model = "voyage-code-3"
create_enabled = true    # each new memory
name = "voyage-code"
provider = "voyage"

[other]
numbers = [1,
  2] # kept
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "memory-layer.toml"
    file.write_text(TEXT)
    return file


def changed_lines(before: str, after: str) -> list[str]:
    return [line for line in after.splitlines() if line not in before.splitlines()]


def test_an_activation_changes_one_value(path: Path) -> None:
    ConfigFile(path).select("openai-3-small")
    assert path.read_text() == TEXT.replace('"voyage-code"   # the', '"openai-3-small"   # the')


def test_off_and_on_again_is_written_beside_the_active_backend(path: Path) -> None:
    file = ConfigFile(path)
    file.select(None)
    assert changed_lines(TEXT, path.read_text()) == ["enabled = false"]
    assert tomllib.loads(path.read_text())["embeddings"]["active"] == "voyage-code"
    file.select("voyage-code")
    assert changed_lines(TEXT, path.read_text()) == ["enabled = true"]


def test_creation_is_switched_in_the_backend_s_own_block(path: Path) -> None:
    file = ConfigFile(path)
    file.set_create_enabled("openai-3-small", enabled=False)
    file.set_create_enabled("voyage-code", enabled=False)
    written = tomllib.loads(path.read_text())["embeddings"]["backends"]
    assert [each["create_enabled"] for each in written] == [False, False]
    assert changed_lines(TEXT, path.read_text()) == [
        "create_enabled = false",
        "create_enabled = false    # each new memory",
    ]
    file.set_create_enabled("voyage-code", enabled=True)
    assert "create_enabled = true    # each new memory" in path.read_text()


def test_what_the_file_says_already_is_not_written(path: Path) -> None:
    before = path.stat()
    ConfigFile(path).select("voyage-code")
    ConfigFile(path).set_create_enabled("openai-3-small", enabled=True)
    assert path.stat() == before


TWO = """\
[embeddings]
active = "a"

[[embeddings.backends]]
name = "a"
provider = "local"

[[embeddings.backends]]
name = "b"
provider = "mock"
"""
INLINE = '[embeddings]\nbackends = [{name = "a", provider = "local"}, {name = "b", provider = "mock"}] # two\n'
WRITTEN = {
    "CRLF": TWO.replace("\n", "\r\n"),
    "without an end of the last line": TWO.rstrip(),
    "without a table of its own": TWO.partition("\n\n")[2],
    "dotted": "embeddings." + TWO.removeprefix("[embeddings]\n"),
    "a mark and a number that is none": "\ufeff" + TWO + "[x]\nz = nan\n",
    "inline": INLINE,
}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_a_file_may_be_written_in_any_way(tmp_path: Path, text: str) -> None:
    path = tmp_path / "memory-layer.toml"
    path.write_bytes(text.encode())
    file = ConfigFile(path)
    file.select("b")
    file.set_create_enabled("b", enabled=False)
    after = path.read_bytes().decode()
    said = tomllib.loads(after.removeprefix("\ufeff"))["embeddings"]
    assert said["active"] == "b"
    assert [each.get("create_enabled") for each in said["backends"]] == [None, False]
    assert text.startswith("\ufeff") == after.startswith("\ufeff")
    assert ("\r\n" in text) == ("\r\n" in after)


def test_the_legacy_shape_is_written_in_its_own_table(path: Path) -> None:
    legacy = '[embeddings] # old\nprovider = "local"\nmodel = "wordllama"\n\n[other]\nx = 1\n'
    path.write_text(legacy)
    file = ConfigFile(path)
    file.select("local-wordllama")
    assert path.read_text() == legacy  # it is what the file says already
    file.select(None)
    file.set_create_enabled("local-wordllama", enabled=False)
    assert changed_lines(legacy, path.read_text()) == ["enabled = false", "create_enabled = false"]
    assert tomllib.loads(path.read_text())["embeddings"]["create_enabled"] is False
    file.select("local-wordllama")
    assert "enabled = true" in path.read_text()


def test_mode_and_owner_stay_and_a_link_is_followed(path: Path, tmp_path: Path) -> None:
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1234, 2345)
    before = path.stat()
    link = tmp_path / "etc.toml"
    link.symlink_to(path)
    ConfigFile(link).select("openai-3-small")
    after = path.stat()
    assert link.is_symlink()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o640, before.st_uid, before.st_gid)
    assert 'active = "openai-3-small"' in path.read_text()
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_file_that_somebody_saved_meanwhile_is_not_replaced(path: Path) -> None:
    assert not replace_unchanged(path, b"what was read before", b"what was made of it")
    assert path.read_text() == TEXT
    assert list(path.parent.iterdir()) == [path]


def test_an_edit_of_a_person_and_one_of_a_command_are_both_there(path: Path) -> None:
    """A person saves over and over; each command finds the version that is there, and leaves all else in it."""
    saves = 40

    def person() -> None:
        for number in range(saves):
            draft = path.with_suffix(".draft")
            draft.write_text(TEXT.replace("port = 7033", f"port = {number}"))
            draft.replace(path)

    file = ConfigFile(path)
    saving = threading.Thread(target=person)
    saving.start()
    refused = 0
    while saving.is_alive():
        try:
            file.select("openai-3-small")
        except Conflict:
            refused += 1  # five saves in a row came between
    saving.join()
    file.select("openai-3-small")
    written = tomllib.loads(path.read_text())
    assert (written["service"]["port"], written["embeddings"]["active"]) == (saves - 1, "openai-3-small")


def test_a_broken_file_is_left_alone(path: Path) -> None:
    path.write_text(TEXT + "oops\n")
    with pytest.raises(Conflict, match=r"memory-layer.toml cannot be used:25: .*nothing was changed"):
        ConfigFile(path).select(None)
    assert path.read_text() == TEXT + "oops\n"


@pytest.mark.parametrize("how", ["mode", "gone"])
def test_a_file_that_cannot_be_written_is_told_and_nothing_changes(path: Path, how: str) -> None:
    if how == "mode":
        path.chmod(0o444)
    else:
        path.unlink()
    with pytest.raises(Conflict, match=r"cannot be written: .*; nothing was changed") as refused:
        ConfigFile(path).select(None)
    assert refused.value.code == "config_not_written"
    assert how == "gone" or path.read_text() == TEXT


WRITES_FOR_EVER = """
import sys
from pathlib import Path
from memory_operator.dev.config.rewrite import ConfigFile

file, number = ConfigFile(Path(sys.argv[1])), 0
print("begun", flush=True)
while True:
    number += 1
    file.select("openai-3-small" if number % 2 else "voyage-code")
"""


def test_a_process_that_is_killed_leaves_the_file_as_it_was_or_as_it_is_to_be() -> None:
    path = open_folder() / "memory-layer.toml"
    path.write_text(TEXT)
    other = TEXT.replace('"voyage-code"   # the', '"openai-3-small"   # the')
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", WRITES_FOR_EVER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        first = path.stat().st_ino
        eventually(lambda seen=first: path.stat().st_ino != seen, "a file in place of the first one")
        assert path.read_text() in (TEXT, other)
        process.kill()
        process.wait()
        process.stdout.close()
        assert path.read_text() in (TEXT, other)


def test_what_a_killed_process_left_is_removed_and_nothing_else(path: Path) -> None:
    left, swap = path.with_name(f".{path.name}.x.memory-operator"), path.with_name(f".{path.name}.swp")
    left.touch()
    swap.touch()
    remove_leftovers(path)
    assert (left.exists(), swap.exists()) == (False, True)
