"""A store with judged sets in it: one project a set, one space a model, written and read as the API does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from memory_operator.contract.resource import ProviderRef
from memory_operator.embedders import EmbedderPool
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.fill.dispersions import measure_some
from memory_operator.engine.memories import version_write
from memory_operator.engine.memories.channels import ChannelName
from memory_operator.engine.memories.embed_on_write import Made
from memory_operator.engine.memories.prepare import NewMemory, Prepared, prepare, seal
from memory_operator.engine.memories.recall import QueryOptions, Recall
from memory_operator.engine.memories.version_write import Vectors, VersionWrite
from memory_operator.memory.encryption import MasterKey
from memory_operator.memory.preprocess import PREPROCESSING_VERSION
from memory_operator.plan.space import SpaceConfig
from memory_operator.settings import CredentialAllowList
from memory_operator.store.db.migrate import migrate
from memory_operator.store.db.pool import Store, open_store
from memory_operator.store.memories import new_versions
from memory_operator.store.memories.tenants import KeyRing
from memory_operator.store.spaces import registry, spaces
from memory_operator.store.spaces.spaces import Owner, Space
from quality.sets import Judged

DIMENSIONS = {"wordllama": 256, "multilingual-e5-small": 384}
TENANT = "quality"
_AT_ONCE = 64
_SECONDS = 600.0
_TRIES = 20
"""Of a question, of which a channel ran out of time."""


@dataclass
class Stocked:
    """The store, and what finds memories in it."""

    store: Store
    recall: Recall
    connector: Connector
    other: Connector
    """Of a pool of its own: a local model computes on one thread of each, and a machine has two cores."""
    keys: KeyRing
    spaces: Mapping[str, Space]
    documents: dict[str, dict[UUID, str]]
    """By set, which document a memory is."""

    async def add(self, judged: Judged) -> None:
        """Store the documents of a set with their vectors of every model."""
        owner = await self.keys.tenant(self.store, TENANT)
        project_id = await self.keys.project(self.store, owner, judged.name)
        known = self.documents.setdefault(judged.name, {})
        items = [(document, text) for document, text in judged.corpus.items() if text.strip()]
        storing: asyncio.Task[None] | None = None
        for start in range(0, len(items), _AT_ONCE):
            some = items[start : start + _AT_ONCE]
            prepared = [await prepare(NewMemory(text, judged.name), owner.key) for _, text in some]
            embedded = await self._embedded(prepared)
            writes = []
            for (document, _), memory, vectors in zip(some, prepared, embedded, strict=True):
                id_ = uuid4()
                version, chunks = await seal(memory, owner.key, id_, 1, project_id, TENANT)
                writes.append(VersionWrite(judged.name, version, chunks, vectors))
                known[id_] = document
            if storing is not None:
                await storing
            # Models compute the next batch meanwhile.
            storing = asyncio.create_task(self._write(writes), name="store a batch")
        if storing is not None:
            await storing

    async def _write(self, writes: Sequence[VersionWrite]) -> None:
        async with self.store.begun(new_versions.BEGIN) as conn:
            await version_write.store(conn, writes)

    async def _embedded(self, memories: Sequence[Prepared]) -> list[Vectors]:
        """The vectors of each memory, of every model."""
        texts = [text for memory in memories for text in memory.texts]
        into = list(self.spaces.values())
        made = {space.id: await self._vectors(space, texts) for space in into}
        found, place = [], 0
        for memory in memories:
            places = list(range(len(memory.texts)))
            of = {
                space_id: Made(dict(enumerate(vectors[place : place + len(places)])))
                for space_id, vectors in made.items()
            }
            found.append(Vectors(into, dict.fromkeys(of, places), of))
            place += len(places)
        return found

    async def _vectors(self, space: Space, texts: Sequence[str]) -> NDArray[np.float32]:
        by_length = sorted(range(len(texts)), key=lambda place: len(texts[place]))  # so that both halves take as long
        halves = [(self.connector, by_length[::2]), (self.other, by_length[1::2])]
        answers = await asyncio.gather(
            *(self._part(of, space.config, [texts[place] for place in half]) for of, half in halves if half)
        )
        found = np.empty((len(texts), space.config.dimensions), dtype=np.float32)
        found[[place for _, half in halves for place in half]] = np.concatenate(answers)
        return found

    async def _part(self, connector: Connector, config: SpaceConfig, texts: Sequence[str]) -> NDArray[np.float32]:
        embedder = await connector.embedder(config)
        answer = await embedder.embed(texts, mode="document", timeout=_SECONDS, dimensions=config.dimensions)
        return answer.vectors

    async def settle(self) -> None:
        """Let the planner know what is there, and measure what workers measure."""
        async with self.store.connection() as conn:
            await conn.execute("vacuum analyze")
        for space in self.spaces.values():
            await measure_some(self.store, space, _AT_ONCE)

    async def ranking(
        self, judged: str, model: str, question: str, count: int, channels: Sequence[ChannelName]
    ) -> Sequence[str]:
        """The documents that answer a question, best first."""
        options = QueryOptions(tuple(channels), self.spaces[model].embedding_version)
        for _ in range(_TRIES):
            answer = await self.recall.query(TENANT, judged, question, count, options=options)
            if all(answer.diagnostics.channels[name].status == "ok" for name in channels):
                return [self.documents[judged][result.id] for result in answer.results]
        raise AssertionError(f"no whole answer on a machine that is so busy: {answer.diagnostics}")


@asynccontextmanager
async def stocked(dsn: str, models: Sequence[str]) -> AsyncIterator[Stocked]:
    """An empty store with a space for each model."""
    await migrate(dsn)
    async with (
        await open_store(dsn, application="memory-quality") as store,
        EmbedderPool() as pool,
        EmbedderPool() as second,
    ):
        connector, other = (Connector(of, _no_secret, CredentialAllowList(), {}) for of in (pool, second))
        keys = KeyRing(MasterKey(bytes(32)))
        made = {model: await _space(store, model) for model in models}
        yield Stocked(store, Recall(store, connector, keys), connector, other, keys, made, {})


async def _no_secret(namespace: str, name: str) -> Mapping[str, str]:
    raise AssertionError(f"a local model needs no Secret: {namespace}/{name}")


async def _space(store: Store, model: str) -> Space:
    config = SpaceConfig(
        namespace="quality",
        type="local",
        model=model,
        requested_dimensions=DIMENSIONS[model],
        dimensions=DIMENSIONS[model],
        preprocessing_version=PREPROCESSING_VERSION,
    )
    async with store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        space = await spaces.create(conn, Owner(ProviderRef("quality", model), "uid", 1), config)
        await spaces.set_state(conn, space.id, "ready")
        found = await spaces.get(conn, space.id)
    assert found is not None
    return found
