"""The sample of `dev --sample`: real texts to find, loaded once, and the commands to try next."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from memory_operator.dev.corpus import SampleText, sample_texts
from memory_operator.dev.manifests.scan import is_manifest
from memory_operator.engine.memories.prepare import NewMemory
from memory_operator.engine.memories.remember import Remember
from memory_operator.engine.ports.sources import SecretReader
from memory_operator.errors import MemoryOperatorError
from memory_operator.logs import get_logger
from memory_operator.memory.attributes import PlainAttributes
from memory_operator.metrics import Metrics
from memory_operator.processes.options import ApiOptions, ProcessOptions
from memory_operator.processes.wiring import Base, open_base
from memory_operator.store.db.activity import Actor
from memory_operator.store.memories import browse
from memory_operator.store.spaces import spaces

log = get_logger(__name__)

TENANT = "default"
PROJECT = "python"
_AT_ONCE = 8
_SPACE_SECONDS = 30.0
_BY = Actor("sample", "dev")


async def load_sample(
    options: ProcessOptions, read_secret: SecretReader, metrics: Metrics, stop: asyncio.Event
) -> None:
    """Store the sample texts that are not there yet; a start that was cut short goes on where it was."""
    async with open_base(options, "memory-sample", read_secret, metrics, stop) as base:
        if base is None:
            return
        owner = await base.keys.tenant(base.store, TENANT)
        project = await base.keys.project(base.store, owner, PROJECT)
        async with base.store.connection() as conn:
            there = await browse.sources(conn, project)
        texts = [text for text in await asyncio.to_thread(lambda: list(sample_texts())) if text.source not in there]
        if texts:
            await _wait_for_space(base, stop)
            await _store(base, texts, stop)


async def _wait_for_space(base: Base, stop: asyncio.Event) -> None:
    """Give the sample Provider a moment: what is stored before its space is there is embedded later."""
    deadline = asyncio.get_running_loop().time() + _SPACE_SECONDS
    while not stop.is_set() and asyncio.get_running_loop().time() < deadline:
        async with base.store.connection() as conn:
            if await spaces.active(conn):
                return
        await asyncio.sleep(0.1)


async def _store(base: Base, texts: list[SampleText], stop: asyncio.Event) -> None:
    remember = Remember(base.store, base.connector, base.keys)
    waiting = iter(texts)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("sample memories", total=len(texts))

        async def store_some() -> None:
            for text in waiting:
                if stop.is_set():
                    return
                await _store_one(remember, text)
                progress.advance(bar)

        async with asyncio.TaskGroup() as group:
            for number in range(_AT_ONCE):
                group.create_task(store_some(), name=f"sample {number}")
    log.info("%d sample memories are stored in project %s", len(texts), PROJECT)


async def _store_one(remember: Remember, text: SampleText) -> None:
    about = PlainAttributes(source=text.source, tags=text.tags, type="documentation")
    try:
        await remember.add(TENANT, NewMemory(text.text, PROJECT, about), _BY)
    except MemoryOperatorError as error:
        log.warning("sample %s is left out: %s", text.source, error)


def greet(options: ApiOptions, source: Path, data: Path, *, sample: bool) -> None:
    """Print where everything is and the commands to try next. The API listens by now.

    `source` is the folder of manifests, or the configuration file.
    """
    url = f"http://127.0.0.1:{options.port}"
    token = "" if options.auth_mode == "none" else ' -H "Authorization: Bearer $MEMORY_TOKEN"'
    lines = [f"memory-operator is ready: {url}  (API docs: {url}/docs)", *_about_tokens(options), ""]
    manifests = sorted(path for path in source.iterdir() if is_manifest(path.name)) if source.is_dir() else []
    if not source.is_dir():
        lines += [f"Backends are those of {source}: memory embeddings list", ""]
    elif not manifests:
        lines += [f"There is no Provider yet: put a manifest into {source}, or start with --sample.", ""]
    lines += ["Try next, in another terminal:"]
    if sample:
        body = f'{{"query": "sort a list by a key", "k": 3, "project": "{PROJECT}"}}'
    else:
        lines += [f'  curl -s{token} {url}/memory/add -d \'{{"text": "sorted() takes a key function"}}\'']
        body = '{"query": "sort a list by a key", "k": 3}'
    lines += [f"  curl -s{token} {url}/memory/query -d '{body}'"]
    changed = next((path for path in manifests if "dimensions: 256" in path.read_text(errors="replace")), None)
    if changed is not None:
        lines += [
            f"  sed -i 's/dimensions: 256/dimensions: 128/' {changed}    # held: look at {url}/v1/embeddings/status",
            f"  curl -s{token} -X POST {url}/admin/embedding-dimension-change -d '{{\"target_dim\": 128}}'",
        ]
    url_file = data / "database-url"
    database = f'The database: psql "$(cat {url_file})"      ' if url_file.exists() else ""
    lines += ["", f"{database}Stop with Ctrl-C; everything is kept in {data}."]
    print("\n" + "\n".join(lines) + "\n", flush=True)  # noqa: T201 - for the person at the terminal


def _about_tokens(options: ApiOptions) -> list[str]:
    if options.auth_mode == "tokens":
        return [f"Calls need a token, of those whose SHA-256 is in {options.tokens_file}: export MEMORY_TOKEN=…"]
    if options.auth_mode == "kubernetes":
        return ["Calls need a token: export MEMORY_TOKEN=$(kubectl create token SERVICEACCOUNT -n NAMESPACE)"]
    return []
