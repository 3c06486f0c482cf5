"""`memory embeddings import`: Memory Layer's file as manifests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import Result

from memory_operator.contract.resource import parse_provider

Run = Callable[..., Result]

CONFIG = """\
[embeddings]
active = "voyage-code"

[[embeddings.backends]]
name = "voyage-code"
provider = "voyage"
api_key_env = "VOYAGE_API_KEY"
model = "voyage-code-3"
batch_size = 16

[[embeddings.backends]]
name = "ollama-nomic"
provider = "ollama"
base_url = "http://127.0.0.1:11434/v1"
api_key_env = ""
model = "nomic-embed-text"
"""
EMPTY = '\n[[embeddings.backends]]\nname = "empty"\nprovider = "openai"\nmodel = ""\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "memory-layer.toml"
    file.write_text(CONFIG)
    file.with_suffix(".env").write_text("VOYAGE_API_KEY=pa-secret\n")
    return file


def test_each_backend_becomes_a_manifest_and_no_key_is_copied(run: Run, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    result = run("embeddings", "import", str(config), "--to-manifests", str(folder), "--namespace", "agents")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(folder / f"{name}.yaml") for name in ("voyage-code", "ollama-nomic")]
    assert sorted(path.name for path in folder.iterdir()) == ["ollama-nomic.yaml", "voyage-code.yaml"]
    voyage = yaml.safe_load((folder / "voyage-code.yaml").read_text())
    provider = parse_provider(voyage)
    assert (provider.problems, str(provider.ref)) == ((), "agents/voyage-code")
    assert voyage["spec"]["credential"] == {"secretRef": {"name": "voyage-api-key", "key": "VOYAGE_API_KEY"}}
    assert "pa-secret" not in result.output + "".join(path.read_text() for path in folder.iterdir())
    assert "kubectl create secret generic voyage-api-key -n agents --from-literal=VOYAGE_API_KEY=…" in result.stderr


def test_what_no_manifest_says_is_told_with_what_to_do_instead(run: Run, config: Path, tmp_path: Path) -> None:
    config.write_text(CONFIG.replace("[embeddings]\n", "[embeddings]\nenabled = false\ncolour = 1\n", 1))
    told = run("embeddings", "import", str(config), "--to-manifests", str(tmp_path / "m")).stderr
    assert "memory-layer.toml:3: colour in [embeddings] is ignored" in told
    assert "memory embeddings activate NAMESPACE/voyage-code" in told
    assert "memory embeddings deactivate" in told
    assert "ollama-nomic is called on this machine, which a pod does not reach" in told


def test_nothing_is_replaced_without_force(run: Run, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "ollama-nomic.yaml").write_text("mine\n")
    refused = run("embeddings", "import", str(config), "--to-manifests", str(folder))
    assert refused.exit_code == 1
    assert "ollama-nomic.yaml is there already; nothing was written" in refused.stderr
    assert [path.read_text() for path in folder.iterdir()] == ["mine\n"]
    assert run("embeddings", "import", str(config), "--to-manifests", str(folder), "--force").exit_code == 0
    assert "mine" not in (folder / "ollama-nomic.yaml").read_text()


def test_a_backend_that_cannot_be_a_provider_is_left_out_with_its_line(run: Run, config: Path, tmp_path: Path) -> None:
    config.write_text(CONFIG + EMPTY)
    result = run("embeddings", "import", str(config), "--to-manifests", str(tmp_path / "m"), "--json")
    assert result.exit_code == 5
    document = json.loads(result.stdout)
    assert document["written"] == [str(tmp_path / "m" / f"{name}.yaml") for name in ("voyage-code", "ollama-nomic")]
    assert document["secrets"] == [{"name": "voyage-api-key", "key": "VOYAGE_API_KEY"}]
    line = (CONFIG + EMPTY).splitlines().index('model = ""') + 1
    assert document["left_out"][0].startswith(f"empty is not written: memory-layer.toml:{line}: spec.model: ")
    config.write_text("[embeddings]\n" + EMPTY)
    assert run("embeddings", "import", str(config), "--to-manifests", str(tmp_path / "m")).exit_code == 6


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff", "is not UTF-8 text"),
        (b"[embeddings\n", "memory-layer.toml:1: "),
    ],
)
def test_a_file_that_cannot_be_used_is_told(
    run: Run, config: Path, tmp_path: Path, content: bytes | None, told: str
) -> None:
    config.unlink()
    if content is not None:
        config.write_bytes(content)
    result = run("embeddings", "import", str(config), "--to-manifests", str(tmp_path / "m"))
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "m").exists()
    assert run("embeddings", "import", str(config)).exit_code == 2
