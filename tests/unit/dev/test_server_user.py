import os
from pathlib import Path

import pytest

from memory_operator.dev.postgres.user import blocked_paths

OTHER = 54_321
"""A user and group that own nothing here."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder whose parents in turn let everybody through."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for step in (tmp_path / "outer", inner):
        step.chmod(0o711)
    return inner


def within(tmp_path: Path, paths: list[Path]) -> list[str]:
    return [str(path.relative_to(tmp_path)) for path in paths if tmp_path in path.parents]


def test_a_folder_that_everybody_may_pass_through_is_not_in_the_way(tree, tmp_path):
    assert within(tmp_path, blocked_paths(OTHER, OTHER, [tree], search_only=True)) == []


def test_a_folder_that_is_to_be_read_must_be_readable(tree, tmp_path):
    assert within(tmp_path, blocked_paths(OTHER, OTHER, [tree])) == ["outer/inner"]


def test_the_outermost_closed_folder_comes_first(tree, tmp_path):
    tree.chmod(0o700)
    tree.parent.chmod(0o700)
    try:
        found = blocked_paths(OTHER, OTHER, [tree], search_only=True)
    finally:
        tree.parent.chmod(0o711)

    assert within(tmp_path, found) == ["outer", "outer/inner"]


def test_the_owner_passes_where_others_do_not(tree, tmp_path):
    tree.chmod(0o700)

    assert within(tmp_path, blocked_paths(os.geteuid(), OTHER, [tree])) == []


def test_the_group_s_bits_count_for_the_group_even_when_others_may_do_more(tree, tmp_path):
    tree.chmod(0o705)

    assert within(tmp_path, blocked_paths(OTHER, tree.stat().st_gid, [tree])) == ["outer/inner"]


def test_a_file_must_be_readable(tree, tmp_path):
    program = tree / "program"
    program.touch(mode=0o700)

    assert within(tmp_path, blocked_paths(OTHER, OTHER, [program])) == ["outer/inner/program"]
