"""Makes our images under build/images/, without a container engine. Needs root and debootstrap.

    python tests/e2e/images/build.py [--output FOLDER]

What takes long is kept, by what it is made of, in `$XDG_CACHE_HOME` (else `~/.cache`)`/memory-operator/images/`.
Exits 1 with the cause when it cannot, or when an image is larger than it may be.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cluster.harness import cache_root
from e2e.images import recipes
from e2e.images.archive import ImageConfig, Layer, read_layer, write_archive, write_layer
from e2e.images.recipes import RECIPES, Recipe
from e2e.images.room import ROOT, SUITE, RoomError, install, make_base, make_debian

OUTPUT = ROOT / "build" / "images"

Say = Callable[[str], None]


def make_images(output: Path, environment: Mapping[str, str], say: Say) -> dict[str, Path]:
    """Make every image; the archive of each by its repository. `say` gets a line for what takes long.

    Raises RoomError.
    """
    cache = cache_root(environment) / "images"
    cache.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    with _alone(cache):
        return {recipe.name: _make(recipe, cache, output, say) for recipe in RECIPES}


def archive_path(output: Path, name: str) -> Path:
    """Where the archive of an image is."""
    return output / f"{name}.tar"


def _make(recipe: Recipe, cache: Path, output: Path, say: Say) -> Path:
    layers = [*_common_layers(recipe, cache, say)]
    if recipe.own:
        layers.append(_own_layer(recipe, cache, say))
    if recipe.extra:
        layers.append(_extra_layer(recipe, cache))
    path = archive_path(output, recipe.name)
    made_of = " ".join([repr(recipe), recipes.version(), *(layer.digest for layer in layers)])
    note = path.with_suffix(".made-of")
    if not path.exists() or not note.exists() or note.read_text() != made_of:
        environment = {"PATH": recipes.PATH, "PYTHONUNBUFFERED": "1"} | recipe.environment
        config = ImageConfig(recipe.entrypoint, environment, recipes.labels(recipe), recipes.USER)
        write_archive(path, f"{recipe.name}:{recipes.version()}", layers, config)
        note.write_text(made_of)
    size = sum(layer.compressed for layer in layers)
    say(f"{recipe.name}:{recipes.version()}  {size / 1e6:.1f} MB compressed  {path}")
    if recipe.limit is not None and size > recipe.limit:
        raise RoomError(f"{recipe.name} is larger than {recipe.limit / 1e6:.0f} MB")
    return path


def _common_layers(recipe: Recipe, cache: Path, say: Say) -> tuple[Layer, Layer]:
    """The Debian below, and the wheels of others."""
    base, debian = _base(cache), cache / f"debian-{SUITE}"
    if not debian.exists():
        say(f"making a Debian with Python in {debian}, once on this machine, for about 2 minutes ...")
        make_debian(debian)
    if not base.exists():
        make_base(debian, base)
    wheels = _wheels(recipe, cache)
    if not wheels.exists():
        say(f"installing requirements/{recipe.wheels}.txt for {recipe.name}, for about a minute ...")
        install(["wheels", recipe.wheels], [base], wheels)
    return _layer(base, base), _layer(wheels, wheels / "opt", "opt")


def _own_layer(recipe: Recipe, cache: Path, say: Say) -> Layer:
    folder = cache / f"own-{recipe.own}-{recipes.own_key(recipe.own)}"
    if not folder.exists():
        for old in cache.glob(f"own-{recipe.own}-*"):  # one for each state of the checkout would be many
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink()
        say(f"installing ours into {recipe.name} ...")
        install(["own", recipe.own], [_wheels(recipe, cache), _base(cache)], folder)
    return _layer(folder, folder / "opt", "opt")


def _extra_layer(recipe: Recipe, cache: Path) -> Layer:
    layer = cache / f"extra-{recipe.name}-{recipes.extra_key(recipe)}.tar"
    found = read_layer(layer)
    if found is not None:
        return found
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        for folder, place in recipe.extra:
            shutil.copytree(ROOT / folder, Path(scratch, place), ignore=shutil.ignore_patterns("__pycache__"))
        return write_layer(layer, (Path(scratch), ""))


def _base(cache: Path) -> Path:
    return cache / f"base-{recipes.base_key()}"


def _wheels(recipe: Recipe, cache: Path) -> Path:
    return cache / f"wheels-{recipe.wheels}-{recipes.wheels_key(recipe.wheels)}"


def _layer(folder: Path, root: Path, place: str = "") -> Layer:
    path = folder.with_name(f"{folder.name}.tar")
    return read_layer(path) or write_layer(path, (root, place))


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """One at a time, across processes: the lock ends with the process that holds it."""
    with (cache / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Make the images, print their sizes."""
    parser = argparse.ArgumentParser(prog="build.py", description="Makes our images without a container engine.")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print(
            "build.py: needs root, for chroot and mounts; `docker build` of the Dockerfiles does not", file=sys.stderr
        )
        return 1
    try:
        make_images(arguments.output.resolve(), os.environ, lambda line: print(line, flush=True))
    except RoomError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
