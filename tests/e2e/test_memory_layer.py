"""Memory Layer's configuration file: each of its guide's ways, typed as they are written there, with two vendors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.dev import PROGRAM, Dev
from fixtures.postgres import open_folder
from fixtures.waiting import eventually
from vendor import StubVendor

MEMORY = Path(sys.executable).with_name("memory")
OPENAI_KEY = "sk-proj-one"
VOYAGE_KEY = "pa-two"
TEXTS = (
    "The tide at the harbour is highest two hours after noon.",
    "A sourdough loaf rises overnight in a cold kitchen.",
    "The climber checks every knot of the rope before the wall.",
)
OTHER_SECTIONS = """\
# Memory Layer. What is not about embeddings is not ours.
[service]
bind = "127.0.0.1:7033"   # unused here

"""


class Layer(Dev):
    """`memory-operator dev --config`, with a vendor that speaks as OpenAI and one that speaks as Voyage."""

    def __init__(self, folder: Path, openai: StubVendor, voyage: StubVendor) -> None:
        super().__init__(folder)
        self.openai = openai
        self.voyage = voyage
        self.config = folder / "memory-layer.toml"
        self.variables = folder / "memory-layer.env"
        self.environment = {
            name: value for name, value in os.environ.items() if name not in ("OPENAI_API_KEY", "VOYAGE_API_KEY")
        }

    def start(self, *, wait: bool = True) -> None:
        command = [str(PROGRAM), "dev", "--port", str(self.port), "--data", str(self.data)]
        command += ["--config", str(self.config), *self.options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=self.environment
            )
        if wait:
            eventually(self.answers, f"the API of {self.folder}")

    def restart(self) -> None:
        assert self.stop() == 0
        self.start()

    def write(self, embeddings: str) -> None:
        """Save the file, with the vendors in place of their well-known endpoints."""
        sections = embeddings.split("[[embeddings.backends]]")
        placed = [self._placed(section) for section in sections]
        self.config.write_text(OTHER_SECTIONS + "[[embeddings.backends]]".join(placed))

    def _placed(self, section: str) -> str:
        url = self.voyage.root_url if '"voyage"' in section else self.openai.base_url
        return section.replace('base_url = ""', f'base_url = "{url}"')

    def memory(self, line: str, code: int = 0) -> str:
        """Run a command as it is written; what it prints on stdout."""
        words = line.split()
        assert words.pop(0) == "memory"
        environment = {**os.environ, "MEMORY_API": f"http://127.0.0.1:{self.port}"}
        done = subprocess.run([str(MEMORY), *words], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, f"{line}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def remember(self) -> None:
        for text in TEXTS:
            self.post("/memory/add", {"text": text, "project": "my-project"})

    def marks(self) -> dict[str, str]:
        """Mark by backend, of `memory embeddings list`."""
        rows = [line.split("\t") for line in self.memory("memory embeddings list").splitlines() if "\t" in line]
        at = rows[0].index("PROVIDER")
        return {row[at].removeprefix("default/"): row[0] for row in rows[1:]}

    def eventually_marked(self, **marks: str) -> None:
        wanted = {name.replace("_", "-"): mark for name, mark in marks.items()}
        eventually(lambda: self.marks() == wanted, f"the list says {wanted}, not {self.marks()}")

    def filled(self) -> bool:
        spaces = self.get("/v1/embeddings/spaces")["spaces"]
        return all(space["coverage"] == 1 and space["state"] == "ready" for space in spaces)


@pytest.fixture
def layer() -> Iterator[Layer]:
    with (
        StubVendor(models={"text-embedding-3-small": 1536, "text-embedding-ada-002": 1536}, api_key=OPENAI_KEY) as one,
        StubVendor(models={"voyage-code-3": 1024}, api_key=VOYAGE_KEY) as two,
    ):
        opened = Layer(open_folder(), one, two)
        yield opened
        opened.close()


SINGLETON = """\
[embeddings]
provider = "openai"
base_url = ""
api_key_env = "OPENAI_API_KEY"
model = "text-embedding-3-small"
batch_size = 16
"""
OPENAI = """
[[embeddings.backends]]
name = "openai-3-small"
provider = "openai"
base_url = ""
api_key_env = "OPENAI_API_KEY"
model = "text-embedding-3-small"
batch_size = 16
"""
VOYAGE = """
[[embeddings.backends]]
name = "voyage-code"
provider = "voyage"
base_url = ""
api_key_env = "VOYAGE_API_KEY"
model = "voyage-code-3"
batch_size = 16
"""


def test_first_time(layer: Layer) -> None:
    layer.config.write_text(OTHER_SECTIONS)
    layer.start()
    layer.remember()  # by words alone, so far
    layer.variables.write_text(f"OPENAI_API_KEY={OPENAI_KEY}\n")
    layer.write(SINGLETON)
    layer.restart()
    layer.eventually_marked(openai_text_embedding_3_small="*")
    layer.memory("memory embeddings reindex --project my-project --wait")
    eventually(layer.filled, "every vector")
    layer.memory("memory doctor")
    layer.memory("memory query harbour --project my-project")
    assert {text for text in layer.openai.inputs if text in TEXTS} == set(TEXTS)


def test_two_backends_from_the_start(layer: Layer) -> None:
    layer.variables.write_text(f"OPENAI_API_KEY={OPENAI_KEY}\nVOYAGE_API_KEY={VOYAGE_KEY}\n")
    layer.write('[embeddings]\nactive = "voyage-code"  # the better one\n' + OPENAI + VOYAGE)
    layer.start()
    layer.eventually_marked(openai_3_small="", voyage_code="*")
    layer.remember()
    layer.memory("memory embeddings reindex --project my-project --wait")
    eventually(layer.filled, "every vector in both spaces")
    assert {text for text in layer.voyage.inputs if text in TEXTS} == set(TEXTS)
    for name, other in (("openai-3-small", "voyage-code"), ("voyage-code", "openai-3-small")):
        before = layer.config.read_text()
        layer.memory(f"memory embeddings activate {name}")
        assert layer.marks() == {name: "*", other: ""}
        assert layer.config.read_text() == before.replace(f'active = "{other}"', f'active = "{name}"')
        found = layer.post("/memory/query", {"query": "harbour", "project": "my-project"})
        assert found["diagnostics"]["semantic_status"] == "ok"
    assert set(layer.openai.keys) == {OPENAI_KEY}
    assert set(layer.voyage.keys) == {VOYAGE_KEY}
