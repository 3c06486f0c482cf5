"""Memory Layer's configuration file: each of its guide's ways, typed as they are written there, with two vendors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

    def close(self) -> None:
        if "MEMORY_DATABASE_URL" in self.environment:
            self.options = ("--database-url", "")  # no server of its own to end
        super().close()

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

    def edit(self, old: str, new: str) -> None:
        """Replace a part of the file as an editor does."""
        text = self.config.read_text()
        assert old in text, text
        draft = self.config.with_suffix(".swp")
        draft.write_text(text.replace(old, new))
        draft.rename(self.config)

    def memory(self, line: str, code: int = 0) -> str:
        """Run a command as it is written; what it prints."""
        words = line.split()
        assert words.pop(0) == "memory"
        environment = {**os.environ, "MEMORY_API": f"http://127.0.0.1:{self.port}"}
        done = subprocess.run([str(MEMORY), *words], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, f"{line}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def remember(self, *texts: str) -> None:
        for text in texts or TEXTS:
            self.post("/memory/add", {"text": text, "project": "my-project"})

    def semantic_status(self) -> str:
        found = self.post("/memory/query", {"query": "harbour", "project": "my-project"})
        return str(found["diagnostics"]["semantic_status"])

    def marks(self) -> dict[str, str]:
        """Mark by backend, of `memory embeddings list`."""
        rows = [line.split("\t") for line in self.memory("memory embeddings list").splitlines() if "\t" in line]
        at = rows[0].index("PROVIDER")
        return {row[at].removeprefix("default/"): row[0] for row in rows[1:]}

    def eventually_marked(self, **marks: str) -> None:
        wanted = {name.replace("_", "-"): mark for name, mark in marks.items()}
        eventually(lambda: self.marks() == wanted, f"the list says {wanted}, not {self.marks()}")

    def space_of(self, backend: str) -> dict[str, Any]:
        spaces = self.get("/v1/embeddings/spaces")["spaces"]
        return next(space for space in spaces if space["provider"] == f"default/{backend}")

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
        assert layer.semantic_status() == "ok"
    assert set(layer.openai.keys) == {OPENAI_KEY}
    assert set(layer.voyage.keys) == {VOYAGE_KEY}


def test_a_second_backend_later_and_the_first_one_retired(layer: Layer) -> None:
    layer.variables.write_text(f"OPENAI_API_KEY={OPENAI_KEY}\n")
    layer.write('[embeddings]\nactive = "openai-3-small"\n' + OPENAI)
    layer.start()
    layer.remember()
    eventually(layer.filled, "every vector")

    layer.variables.write_text(f"OPENAI_API_KEY={OPENAI_KEY}\nVOYAGE_API_KEY={VOYAGE_KEY}\n")
    layer.write('[embeddings]\nactive = "openai-3-small"\n' + OPENAI + VOYAGE)
    layer.restart()
    layer.eventually_marked(openai_3_small="*", voyage_code="")
    layer.memory("memory embeddings reembed --project my-project --dry-run")
    layer.memory("memory embeddings reembed --project my-project --wait")
    eventually(layer.filled, "every vector in both spaces")
    layer.memory("memory embeddings activate voyage-code")
    layer.memory("memory embeddings reindex --project my-project --backend voyage-code")
    listed = layer.memory("memory embeddings list --project my-project")
    assert [line.split("\t")[-2:] for line in listed.splitlines()[1:3]] == [["3", "3"], ["3", "3"]]

    layer.write('[embeddings]\nactive = "voyage-code"\n' + VOYAGE)
    layer.restart()
    eventually(lambda: layer.space_of("openai-3-small")["state"] == "orphaned", "the space of nobody")
    calls = layer.openai.count
    assert "would remove text-embedding-3-small" in layer.memory(
        "memory embeddings prune --project my-project --dry-run"
    )
    layer.memory("memory embeddings prune --project my-project --yes")
    assert layer.marks() == {"voyage-code": "*"}
    assert layer.openai.count == calls
    assert layer.semantic_status() == "ok"


def test_a_backend_that_cannot_work_says_why_and_works_once_it_is_mended(layer: Layer) -> None:
    layer.variables.write_text(f"OPENAI_API_KEY={OPENAI_KEY}\n")
    empty = OPENAI.replace('"openai-3-small"', '"empty"').replace("text-embedding-3-small", "")
    layer.write('[embeddings]\nactive = "openai-3-small"\n' + OPENAI + VOYAGE + empty)
    layer.start()
    layer.eventually_marked(openai_3_small="*", voyage_code="!", empty="!")
    listed = layer.memory("memory embeddings list")
    assert f"VOYAGE_API_KEY is set neither in {layer.variables} nor in the environment of this process" in listed
    assert "model is required" in listed
    assert (
        f"(memory-layer.toml:{layer.config.read_text()[: layer.config.read_text().rindex('model')].count(chr(10)) + 1})"
        in listed
    )
    assert "VOYAGE_API_KEY" in layer.memory("memory doctor", code=1)
    assert "has no space: SecretMissing" in layer.memory("memory embeddings activate voyage-code", code=1)

    layer.variables.write_text(f"OPENAI_API_KEY={OPENAI_KEY}\nVOYAGE_API_KEY={VOYAGE_KEY}\n")
    layer.edit('model = ""', 'model = "text-embedding-ada-002"')
    layer.eventually_marked(openai_3_small="*", voyage_code="", empty="")
    layer.remember()
    layer.memory("memory embeddings reembed --project my-project --backend openai-3-small --wait")
    layer.memory("memory embeddings reembed --project my-project --backend openai-3-small --dry-run")
    eventually(layer.filled, "every vector in all spaces")
    layer.memory("memory doctor")
    assert VOYAGE_KEY not in layer.log.read_text()


def test_edits_are_followed_and_commands_are_written_without_a_restart(layer: Layer) -> None:
    layer.variables.write_text(f"OPENAI_API_KEY={OPENAI_KEY}\nVOYAGE_API_KEY={VOYAGE_KEY}\n")
    layer.write('[embeddings]\nactive = "openai-3-small"  # mine\n' + OPENAI + VOYAGE)
    layer.start()
    layer.remember()
    layer.eventually_marked(openai_3_small="*", voyage_code="")
    eventually(layer.filled, "every vector in both spaces")

    layer.edit('active = "openai-3-small"', 'active = "voyage-code"')
    layer.eventually_marked(openai_3_small="", voyage_code="*")
    layer.edit("  # mine", "  # mine\nenabled = false")
    eventually(lambda: layer.semantic_status() == "disabled", "semantic search is off")
    layer.edit("enabled = false", "enabled = true")
    eventually(lambda: layer.semantic_status() == "ok", "semantic search is on")
    layer.memory("memory embeddings deactivate")
    assert "\nenabled = false\n" in layer.config.read_text()
    assert layer.semantic_status() == "disabled"
    layer.memory("memory embeddings activate openai-3-small")
    assert 'active = "openai-3-small"  # mine\nenabled = true\n' in layer.config.read_text()
    assert layer.semantic_status() == "ok"

    layer.memory("memory embeddings create-enabled voyage-code --off")
    assert layer.config.read_text().rstrip().endswith("create_enabled = false")
    layer.remember("A fourth memory.")
    eventually(lambda: layer.space_of("openai-3-small")["vectors"] == 4, "the vector of the active backend")
    assert layer.space_of("voyage-code")["vectors"] == 3
    layer.memory("memory embeddings reembed --backend voyage-code --wait")
    assert layer.space_of("voyage-code")["vectors"] == 4

    good = layer.config.read_text()
    layer.edit("[embeddings]", "[embeddings")
    eventually(lambda: f"{layer.config}:5: " in layer.log.read_text(), "the fault with its line")
    assert layer.marks() == {"openai-3-small": "*", "voyage-code": ""}
    refused = layer.memory("memory embeddings activate voyage-code", code=1)
    assert "cannot be used:5" in refused
    assert "nothing was changed" in refused
    layer.config.write_text(good)
    layer.config.chmod(0o444)
    refused = layer.memory("memory embeddings activate voyage-code", code=1)
    assert "cannot be written: Permission denied; nothing was changed" in refused
    assert layer.marks() == {"openai-3-small": "*", "voyage-code": ""}
    assert layer.config.read_text() == good
    layer.config.chmod(0o644)

    layer.edit("text-embedding-3-small", "text-embedding-ada-002")
    eventually(lambda: len(layer.get("/v1/embeddings/spaces")["spaces"]) == 3, "a space beside the old one")
    eventually(lambda: all(one["vectors"] == 4 for one in layer.get("/v1/embeddings/spaces")["spaces"]), "its vectors")
    assert layer.get("/v1/embeddings/status")["active"]["model"] == "text-embedding-3-small"
    layer.memory("memory embeddings activate openai-3-small")
    assert layer.get("/v1/embeddings/status")["active"]["model"] == "text-embedding-ada-002"
    assert layer.semantic_status() == "ok"


def test_on_a_database_of_somebody_s_own_what_a_kill_left_is_followed_at_the_next_start(
    layer: Layer, empty_database_url: str
) -> None:
    """Named by a variable, so that its password is in no list of processes; nor is it in the log."""
    layer.environment["MEMORY_DATABASE_URL"] = empty_database_url
    layer.variables.write_text(f"OPENAI_API_KEY={OPENAI_KEY}\nVOYAGE_API_KEY={VOYAGE_KEY}\n")
    layer.write('[embeddings]\nactive = "openai-3-small"\n' + OPENAI + VOYAGE)
    layer.start()
    layer.remember()
    layer.eventually_marked(openai_3_small="*", voyage_code="")
    eventually(layer.filled, "every vector in both spaces")
    layer.kill()
    layer.edit('active = "openai-3-small"', 'active = "voyage-code"')  # as a command leaves it that dies after its file
    layer.start()
    layer.eventually_marked(openai_3_small="", voyage_code="*")
    check = [str(PROGRAM), "check", "--config", str(layer.config)]
    done = subprocess.run(check, env=layer.environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.count(": settled: ")) == (0, 2), done.stdout + done.stderr
    assert empty_database_url not in layer.log.read_text()
    assert not (layer.data / "database-url").exists()


@pytest.mark.parametrize(
    ("options", "text", "told"),
    [
        ((), '[embeddings]\nactive = "x"\n', "memory-layer.toml:2: active names no backend of this file"),
        ((), None, "memory-layer.toml cannot be read: No such file or directory"),
        (("--sample",), "", "--config and --sample do not go together"),
    ],
)
def test_what_cannot_start_says_why(tmp_path: Path, options: tuple[str, ...], text: str | None, told: str) -> None:
    config = tmp_path / "memory-layer.toml"
    if text is not None:
        config.write_text(text)
    url = "postgresql://me:secret@127.0.0.1:1/none"
    command = [str(PROGRAM), "dev", "--config", str(config), "--data", str(tmp_path / "data"), *options]
    done = subprocess.run([*command, "--database-url", url], capture_output=True, text=True, timeout=120)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr
    assert "secret" not in done.stderr
