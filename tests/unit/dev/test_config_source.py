"""Memory Layer's file is a source of Providers, as a folder of manifests is, and says which one is active."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.dev.config.source import ConfigSource
from memory_operator.dev.config.variables import parse_variables
from memory_operator.engine.ports.selection import Selection, SelectionFile
from memory_operator.engine.ports.sources import ProviderSource
from memory_operator.errors import ConfigurationError, SecretMissing, SourceUnavailable

A, B = ProviderRef("default", "a"), ProviderRef("default", "b")
ONE = '[embeddings]\n\n[[embeddings.backends]]\nname = "a"\nprovider = "openai"\nmodel = "m"\napi_key_env = "KEY"\n'
TWO = ONE + '\n[[embeddings.backends]]\nname = "b"\nprovider = "local"\n'

Opened = Callable[..., ConfigSource]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "memory-layer.toml"


@pytest.fixture
def opened(config: Path, tmp_path: Path) -> Opened:
    state = tmp_path / "state"
    state.mkdir()
    return lambda **environment: ConfigSource(config, environment=environment, state=state)


async def refs(source: ConfigSource) -> list[ProviderRef]:
    return [each.ref for each in (await source.list()).whole()]


async def test_it_is_a_source_of_providers_and_says_which_is_active(config, opened):
    config.write_text(TWO.replace("[embeddings]\n", '[embeddings]\nactive = "b"\n', 1))
    source = opened()
    as_source: ProviderSource = source
    as_file: SelectionFile = source
    assert await refs(source) == [A, B]
    assert (await as_source.get(A)).generation == 1
    assert await as_file.selection() == Selection(enabled=True, active=B)


async def test_an_edit_is_taken_with_the_next_generation_and_only_of_what_it_is_about(config, opened):
    config.write_text(TWO)
    source = opened()
    await source.list()
    config.write_text(TWO.replace('"m"', '"n"').replace("[embeddings]\n", "[embeddings]\nenabled = false\n", 1))
    found = {each.ref: each for each in (await source.list()).whole()}
    assert (found[A].generation, found[A].spec.model) == (2, "n")
    assert found[B].generation == 1
    assert await source.selection() == Selection(enabled=False, active=A)


@pytest.mark.parametrize("broken", ["", TWO + "oops\n", '[embeddings]\nactive = "c"\n', TWO + ONE.partition("\n")[2]])
async def test_a_broken_edit_changes_nothing_and_says_where(config, opened, broken, caplog):
    config.write_text(TWO)
    source = opened()
    await source.list()
    config.write_text(broken)
    assert await refs(source) == [A, B]
    assert await source.selection() == Selection(enabled=True, active=A)
    assert f"{config}:" in caplog.text
    assert "its last good version stays in force" in caplog.text
    again = opened()
    again.check()  # what is in force is served
    assert await refs(again) == [A, B]


async def test_a_file_that_is_gone_is_unavailable_and_deletes_nothing(config, opened):
    config.write_text(TWO)
    source = opened()
    await source.list()
    config.unlink()
    with pytest.raises(SourceUnavailable, match=str(config)):
        await source.list()
    config.write_text(TWO)
    assert await refs(source) == [A, B]


async def test_a_backend_whose_block_is_gone_is_deleted(config, opened):
    config.write_text(TWO)
    source = opened()
    await source.list()
    config.write_text(ONE)

    async def one_is_left() -> bool:
        return await refs(source) == [A]

    await until(one_is_left, "only one backend is there")


async def test_what_is_ignored_is_told_with_its_line(config, opened, caplog):
    config.write_text(TWO + "colour = 1\n")
    config.with_suffix(".env").write_text("KEY=x\nwhat is this\n")
    source = opened()
    await source.list()
    await source.list()
    assert caplog.text.count("memory-layer.toml:12: colour is no key of a backend and is ignored") == 1
    assert caplog.text.count("memory-layer.env:2: is not NAME=value and is ignored") == 1


async def test_a_backend_without_a_model_says_where(config, opened):
    config.write_text(ONE.replace('"m"', '""'))
    provider = await opened().get(A)
    assert provider is not None
    assert provider.problems == (f"spec.model: model is required unless type is mock or local ({config.name}:6)",)


async def test_a_key_comes_from_the_environment_and_else_from_the_file_of_variables(config, opened):
    config.write_text(TWO)
    with pytest.raises(SecretMissing, match=r"KEY is set neither in .*memory-layer.env nor in the environment"):
        await opened().read_secret("default", "KEY")
    config.with_suffix(".env").write_text("KEY='of the file'\n")
    assert await opened().read_secret("default", "KEY") == {"KEY": "of the file"}
    assert await opened(KEY="of the process").read_secret("default", "KEY") == {"KEY": "of the process"}
    config.with_suffix(".env").write_text("KEY=\n")
    with pytest.raises(SecretMissing):
        await opened().read_secret("default", "KEY")
    with pytest.raises(SecretMissing, match="MEMORY_DATABASE_URL is for no vendor"):
        await opened(MEMORY_DATABASE_URL="postgresql://…").read_secret("default", "MEMORY_DATABASE_URL")


async def test_a_key_that_is_added_is_noticed_without_a_restart(config, opened):
    config.write_text(TWO)
    source, stop, changed = opened(), asyncio.Event(), list[ProviderRef]()
    watching = asyncio.create_task(source.watch(changed.append, lambda: None, stop))
    await until(lambda: A in changed, "the backend is seen")
    changed.clear()
    config.with_suffix(".env").write_text("KEY=x\n")
    await until(lambda: A in changed, "the backend is looked at again")
    stop.set()
    await watching


def test_a_first_start_needs_a_file_that_can_be_used(config: Path, opened: Opened) -> None:
    with pytest.raises(ConfigurationError, match=r"memory-layer.toml cannot be read: No such file"):
        opened().check()
    config.write_text('[embeddings]\nactive = "x"\n')
    with pytest.raises(ConfigurationError, match=r"memory-layer.toml:2: active names no backend of this file"):
        opened().check()
    config.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        opened().check()


def test_variables_are_read_as_a_shell_and_systemd_write_them() -> None:
    found, unreadable = parse_variables(
        "# keys\nA=1\nexport B = two words  # why\nC='x # y'\nD=\"q\" # z\n; no\nA=3\nnothing\n=5\n"
    )
    assert {name: value for name, (_, value) in found.items()} == {"A": "3", "B": "two words", "C": "x # y", "D": "q"}
    assert unreadable == [8, 9]
