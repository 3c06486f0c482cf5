"""Which image has what in it: the Dockerfiles say the same."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from e2e.images.room import CODE, ROOT, SCRIPT

PATH = "/opt/memory/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USER = "65532:65532"
PACKAGES = "opt/memory/lib/python3.11/site-packages"


# What an image of less than everything changes with.
_OWN = {
    "postgres": ("operator/image", "operator/memory_operator/dev/postgres/initdb.py"),
    "webhook": (
        "operator/image",
        "operator/memory_operator/contract",
        "operator/memory_operator/listening.py",
        "operator/memory_operator/logs.py",
        "webhook",
        "pyproject.toml",
    ),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image. `wheels` and `own` are the arguments of install.sh.

    `extra` are folders of the checkout that come on top, each with its place in the image.
    """

    name: str
    wheels: str
    own: str
    description: str
    entrypoint: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    extra: tuple[tuple[str, str], ...] = ()
    limit: int | None = None
    """How large it may be when compressed, in bytes."""


RECIPES = (
    Recipe(
        "memory-operator",
        "operator",
        "operator",
        "Owns the embedding model of a pgvector memory store: operator, memory API and worker",
        ("memory-operator",),
    ),
    Recipe(
        "memory-webhook",
        "webhook",
        "webhook",
        "Warns of what an edit of a Provider will do; never refuses one",
        ("memory-webhook",),
        limit=120_000_000,
    ),
    Recipe(
        "memory-postgres",
        "postgres",
        "postgres",
        "PostgreSQL with pgvector, for trying memory-operator out",
        ("memory-postgres",),
        {
            "PATH": f"/opt/memory/postgres/bin:{PATH}",
            "PGDATA": "/var/lib/memory-postgres/data",
            "PGHOST": "/run/memory-postgres",
            "PGUSER": "memory",
            "PGDATABASE": "memory",
        },
    ),
    Recipe(
        "memory-vendor-stub",
        "operator",
        "",
        "A stub embedding vendor, for tests",
        ("/opt/memory/bin/python3", "-m", "vendor", "--host", "0.0.0.0"),
        {"PYTHONPATH": "/opt/tests"},
        (("tests/vendor", "opt/tests/vendor"),),
    ),
    Recipe(
        "memory-operator-next",
        "operator",
        "operator",
        "A release with one more migration, for tests of rolling back",
        ("memory-operator",),
        extra=(("tests/e2e/images/next", f"{PACKAGES}/memory_operator/store/db/migrations"),),
    ),
)


def version() -> str:
    """The version of this checkout, which is the tag of its images."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def labels(recipe: Recipe) -> dict[str, str]:
    """What the image says about itself."""
    return {
        "org.opencontainers.image.title": recipe.name,
        "org.opencontainers.image.description": recipe.description,
        "org.opencontainers.image.version": version(),
        "org.opencontainers.image.licenses": "Apache-2.0",
        "memory-operator/sbom": "/opt/memory/sbom.cdx.json",
    }


def base_key() -> str:
    """Changes when the script does."""
    return _digest([ROOT / SCRIPT])


def wheels_key(name: str) -> str:
    """Changes when what is pinned does."""
    return _digest([ROOT / SCRIPT, ROOT / "requirements" / f"{name}.txt"])


def own_key(name: str) -> str:
    """Changes when a file of ours does."""
    files = [ROOT / SCRIPT, ROOT / "requirements" / "build.txt", ROOT / "requirements" / f"{name}.txt"]
    for each in _OWN.get(name, CODE):
        files += _files(ROOT / each)
    return _digest(files)


def extra_key(recipe: Recipe) -> str:
    """Changes when a file in those folders does, or the place of a folder in the image."""
    return _digest([file for folder, _ in recipe.extra for file in _files(ROOT / folder)], repr(recipe.extra))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [
        file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc"
    ]


def _digest(files: list[Path], about: str = "") -> str:
    digest = hashlib.sha256(about.encode())
    for file in sorted(files):
        digest.update(f"{file.relative_to(ROOT)}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
