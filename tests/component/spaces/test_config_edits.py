"""Memory Layer's file and the database say the same, whoever edits and whatever is killed, and no vector is lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fixtures.engine import World
from fixtures.waiting import ends, until
from memory_operator.contract.memory_layer import parse_config
from memory_operator.contract.resource import ProviderRef
from memory_operator.dev.config.source import ConfigSource
from memory_operator.engine.admin.selection import FileCatalog
from memory_operator.engine.gate.controller import Operator
from memory_operator.engine.ports.selection import Selection
from memory_operator.errors import LockBusy, MemoryOperatorError, NotFound
from memory_operator.store.db.activity import Actor
from memory_operator.store.spaces import registry, spaces

STEPS = 12
STEP_KINDS = (
    *("active", "enabled", "model", "add", "remove", "break", "remember"),
    *("activate", "create", "off", "read-only"),
)
NAMES = ("a", "b", "c")
BY = Actor("somebody", "test")
HEAD = '# first\n[embeddings]\nactive = "a" # read\nenabled = true # or not\n'


def block(name: str, model: str) -> str:
    return (
        f'\n[[embeddings.backends]]\nname = "{name}" # {name}\nprovider = "mock"\nmodel = "{model}"\ndimensions = 8\n'
    )


class Edited:
    """The file, and one life after the other of what reads it."""

    def __init__(self, world: World, folder: Path, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.path = folder / "memory-layer.toml"
        self.state = folder / "state"
        self.state.mkdir()
        self.path.write_text(HEAD + block("a", "one") + block("b", "two"))
        self.catalog: FileCatalog
        self.source: ConfigSource

    @asynccontextmanager
    async def life(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        self.source = ConfigSource(self.path, environment={}, state=self.state)
        self.catalog = FileCatalog(self.world.store, self.source)
        operator = Operator(self.world.store, self.source, self.world.connector, self.world.settings)
        tasks = [
            asyncio.create_task(operator.run(stop)),
            asyncio.create_task(self.source.watch(operator.enqueue, operator.listed_again, stop)),
            asyncio.create_task(self._follow(stop)),
        ]
        try:
            yield
        finally:
            stop.set()
            await ends(asyncio.gather(*tasks), "the end of a life")

    async def _follow(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(MemoryOperatorError):
                await self.catalog.follow()
            await asyncio.sleep(0.05)

    @property
    def text(self) -> str:
        return self.path.read_text()

    def save(self, text: str) -> None:
        draft = self.path.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self.path)

    def blocks(self) -> list[str]:
        return re.findall(r'name = "(\w)"', self.text)

    def creates(self, name: str) -> bool:
        """Whether the file has new memories embedded for a backend."""
        [backend] = [each for each in parse_config(self.text).backends if each.name == name]
        return backend.spec["embedding"].get("createEnabled", True) is True

    async def said(self) -> tuple[bool, str, str]:
        """What the database says: whether semantic search is on, and of which backend the active space is."""
        async with self.world.store.connection() as conn:
            now, active = await registry.read(conn), await spaces.active(conn)
        off = active is None and now.inactive_reason == "disabled"
        return not off, active.ref.name if active else "", active.embedding_version if active else ""

    async def follows(self) -> bool:
        """Whether the database says what the file says, or waits for a space that has fewer vectors."""
        selection = await self.source.selection()
        assert selection is not None
        assert selection.active is not None
        on, name, version = await self.said()
        if on != selection.enabled:
            return False
        if not on or name == selection.active.name:
            return True
        figures = {view.space.embedding_version: view.figures.vectors for view in await self.catalog.spaces()}
        with contextlib.suppress(NotFound):
            wanted = await self.catalog.named(None, str(selection.active))
            return self.source.waits is not None and wanted.figures.vectors < figures.get(version, 0)
        return False

    async def vectors(self) -> dict[str, int]:
        return {view.space.embedding_version: view.figures.vectors for view in await self.catalog.spaces()}

    async def step(self) -> str:
        """One thing that a person, or a command, does."""
        kind = self.chance.choice(
            [
                "active",
                "enabled",
                "model",
                "add",
                "remove",
                "break",
                "activate",
                "create",
                "off",
                "remember",
                "read-only",
            ]
        )
        name = self.chance.choice(self.blocks())
        match kind:
            case "active":
                self.save(re.sub(r'active = "\w"', f'active = "{name}"', self.text))
            case "enabled":
                on = self.chance.choice(["true", "false"])
                self.save(re.sub(r"\nenabled = \w+", f"\nenabled = {on}", self.text))
            case "model":
                head, mark, rest = self.text.partition(f'name = "{name}"')
                model = self.chance.choice(["one", "two", "three", "four"])
                self.save(head + mark + re.sub(r'model = "\w+"', f'model = "{name}-{model}"', rest, count=1))
            case "add" if len(self.blocks()) < len(NAMES):
                new = next(each for each in NAMES if each not in self.blocks())
                self.save(self.text + block(new, f"{new}-new"))
            case "remove" if f'active = "{name}"' not in self.text and len(self.blocks()) > 1:
                parts = self.text.split("\n[[embeddings.backends]]\n")
                kept = [part for part in parts if f'name = "{name}"' not in part]
                self.save("\n[[embeddings.backends]]\n".join(kept))
            case "break":
                await self.broken()
            case "remember":
                await self.world.stored(2)
            case "read-only":
                self.path.chmod(0o444)
                await self.command("activate", name)
                self.path.chmod(0o644)
            case _:
                await self.command(kind, name)
        return f"{kind} {name}"

    async def broken(self) -> None:
        """What cannot be used changes nothing, and no command is half done meanwhile."""
        good, before = self.text, await self.said()
        self.save(good + "oops\n")
        await self.source.list()
        await self.command("activate", self.chance.choice(self.blocks()))
        assert await self.said() == before
        self.save(good)

    async def command(self, kind: str, name: str) -> None:
        """A command is done in both, or refused and in none."""
        # What the file said before it is followed by now: the follower is not to be taken for the command.
        await until(self.follows, "the database says what the file says")
        before, text = await self.said(), self.text
        try:
            match kind:
                case "activate":
                    await self.catalog.activate(None, f"default/{name}", BY, force=self.chance.random() < 0.3)
                    assert (await self.said())[:2] == (True, name)
                    assert await self.source.selection() == Selection(True, ProviderRef("default", name))
                case "off":
                    await self.catalog.deactivate(BY)
                    assert (await self.said())[0] is False
                    assert "\nenabled = false" in self.text
                case "create":
                    enabled = self.chance.choice([True, False])
                    view = await self.catalog.set_create_enabled(None, f"default/{name}", BY, enabled=enabled)
                    assert view.space.create_enabled is enabled
                    assert self.creates(name) is enabled
        except MemoryOperatorError:
            assert (await self.said(), self.text) == (before, text)


@pytest.mark.parametrize("seed", range(3))
async def test_file_and_database_say_the_same_and_no_vector_is_lost(world: World, tmp_path: Path, seed: int) -> None:
    edited = Edited(world, tmp_path, random.Random(seed))
    await world.stored(3)
    done: list[str] = []
    async with world.worker():
        seen: dict[str, int] = {}
        while len(done) < STEPS:
            async with edited.life():
                for _ in range(edited.chance.randint(2, 5)):
                    await until(edited.follows, f"the database says what the file says, after {done} of seed {seed}")
                    now = await edited.vectors()
                    assert {version: now.get(version, 0) for version in seen} == _at_least(now, seen), done
                    seen = now
                    done.append(await edited.step())
                    text = edited.text
                    assert all(comment in text for comment in ("# first", "# read", "# or not")), text
                await until(edited.follows, f"the database says what the file says, after {done} of seed {seed}")
            if edited.chance.random() < 0.5:  # a command that dies between file and database
                name = edited.chance.choice(edited.blocks())
                edited.source._file.select(name)
                done.append(f"killed {name}")


def _at_least(now: dict[str, int], seen: dict[str, int]) -> dict[str, Any]:
    return {version: max(now.get(version, 0), vectors) for version, vectors in seen.items()}


BUSY = """
create function busy() returns trigger language plpgsql as $$
begin raise exception 'busy' using errcode = 'lock_not_available'; end $$;
create trigger busy before update on memory_registry for each row when (new.inactive_reason = 'disabled')
  execute function busy()
"""


async def test_a_command_that_the_database_does_not_follow_leaves_the_file_as_it_was(
    world: World, tmp_path: Path
) -> None:
    edited = Edited(world, tmp_path, random.Random(0))
    async with world.worker(), edited.life():
        await until(edited.follows, "the database says what the file says")
        await until(lambda: _is_named(edited, "a"), "the active backend has a space")
        await until(edited.follows, "the database says what the file says")
        before = edited.text
        async with world.store.connection() as conn:
            await conn.execute(BUSY)
        with pytest.raises(LockBusy):
            await edited.catalog.deactivate(BY)
        assert tomllib.loads(edited.text) == tomllib.loads(before)
        assert (await edited.said())[:2] == (True, "a")


async def _is_named(edited: Edited, name: str) -> bool:
    try:
        return bool(await edited.catalog.named(None, f"default/{name}"))
    except NotFound:
        return False
