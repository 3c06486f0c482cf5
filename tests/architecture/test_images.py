"""The Dockerfiles say what `make images` makes: one cannot be tried here, and the other is what the tests run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.images.recipes import PATH, RECIPES, USER, Recipe, labels

ROOT = Path(__file__).parents[2]
DOCKERFILES = {
    "memory-operator": ("operator/Dockerfile", "operator"),
    "memory-postgres": ("operator/Dockerfile", "postgres"),
    "memory-webhook": ("webhook/Dockerfile", "webhook"),
}
OURS = [recipe for recipe in RECIPES if recipe.name in DOCKERFILES]


def _stage(recipe: Recipe) -> list[str]:
    """The instructions of the image's own stage."""
    path, stage = DOCKERFILES[recipe.name]
    text = re.sub(r"\\\n\s*", "", (ROOT / path).read_text())
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)
    (found,) = [each for each in stages if each.partition("\n")[0].endswith(f" AS {stage}")]
    return [line for line in found.splitlines()[1:] if line and not line.startswith("#")]


def _pairs(instructions: list[str], keyword: str) -> dict[str, str]:
    found = {}
    for line in instructions:
        if line.startswith(f"{keyword} "):
            found |= dict(word.split("=", 1) for word in shlex.split(line.removeprefix(keyword)))
    return found


@pytest.mark.parametrize("recipe", OURS, ids=lambda recipe: recipe.name)
def test_a_dockerfile_and_its_recipe_agree(recipe: Recipe) -> None:
    stage = _stage(recipe)
    assert _pairs(stage, "ENV") == {"PATH": PATH, "PYTHONUNBUFFERED": "1"} | recipe.environment
    assert _pairs(stage, "LABEL") == labels(recipe)
    assert f"USER {USER}" in stage
    assert f'ENTRYPOINT ["{recipe.entrypoint[0]}"]' in stage


@pytest.mark.parametrize("recipe", OURS, ids=lambda recipe: recipe.name)
def test_a_dockerfile_runs_the_script_and_copies_what_is_there(recipe: Recipe) -> None:
    text = (ROOT / DOCKERFILES[recipe.name][0]).read_text()
    for step in ("base", f"wheels {recipe.wheels}", f"own {recipe.own}"):
        assert re.search(rf"^RUN .*install\.sh {step}$", text, re.MULTILINE), step
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)
    assert copied
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in " ".join(copied).split():
        assert (ROOT / source).exists(), source
        assert f"!{source.split('/')[0]}" in ignored
    assert (ROOT / "operator/image/install.sh").stat().st_mode & 0o111


def test_only_the_webhook_has_a_limit_and_it_is_the_promised_one() -> None:
    assert {recipe.name: recipe.limit for recipe in RECIPES if recipe.limit} == {"memory-webhook": 120_000_000}


def test_the_webhook_imports_no_more_of_the_operator_than_its_image_keeps() -> None:
    script = (ROOT / "operator/image/install.sh").read_text()
    kept = set(
        re.findall(r"! -name ([a-z]+)(?:\.py)?\s", script.partition("only_the_webhook() {")[2].partition("rm -f")[0])
    )
    program = "import sys, memory_webhook.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert (
        {name.split(".")[1] for name in loaded if name.startswith("memory_operator.")}
        == kept
        == {
            "contract",
            "listening",
            "logs",
        }
    )
