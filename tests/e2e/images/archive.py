"""Layers of images, and archives of images as `docker save` writes them and `docker load` and containerd read them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Layer:
    """One tar of a file system, its digest (sha256, hex) and its size in bytes when compressed by gzip."""

    path: Path
    digest: str
    compressed: int


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What a container of the image starts with."""

    entrypoint: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    user: str = ""


def write_layer(path: Path, *roots: tuple[Path, str]) -> Layer:
    """Write a layer of folders, each with its place in the image (`""` is the root), as root's, without times."""
    unfinished = path.with_suffix(".unfinished")
    with tarfile.open(unfinished, "w", format=tarfile.GNU_FORMAT) as tar:
        for root, place in roots:
            for child in sorted(root.iterdir()) if root.is_dir() else [root]:
                name = f"{place}/{child.name}".lstrip("/")
                tar.add(child, arcname=name, filter=_timeless)
    unfinished.replace(path)
    layer = Layer(path, _digest(path), _compressed_size(path))
    path.with_suffix(".json").write_text(json.dumps({"digest": layer.digest, "compressed": layer.compressed}))
    return layer


def read_layer(path: Path) -> Layer | None:
    """A layer that was written before; None when there is none."""
    try:
        known = json.loads(path.with_suffix(".json").read_text())
        return Layer(path, known["digest"], known["compressed"]) if path.exists() else None
    except FileNotFoundError:
        return None


def write_archive(path: Path, name: str, layers: Sequence[Layer], config: ImageConfig) -> None:
    """Write one image. `name` is REPOSITORY:TAG."""
    body: dict[str, Any] = {
        "Entrypoint": list(config.entrypoint),
        "Env": [f"{key}={value}" for key, value in config.environment.items()],
        "Labels": config.labels,
        "WorkingDir": "/",
    }
    if config.user:
        body["User"] = config.user
    described = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": body,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]},
            "history": [{"created_by": "operator/image/install.sh"} for _ in layers],
        }
    ).encode()
    config_name = f"{hashlib.sha256(described).hexdigest()}.json"
    manifest = [
        {"Config": config_name, "RepoTags": [name], "Layers": [f"{layer.digest}/layer.tar" for layer in layers]}
    ]
    unfinished = path.with_suffix(".unfinished")
    with tarfile.open(unfinished, "w") as tar:
        _add_bytes(tar, config_name, described)
        for layer in layers:
            tar.add(layer.path, arcname=f"{layer.digest}/layer.tar", filter=_timeless)
        _add_bytes(tar, "manifest.json", json.dumps(manifest).encode())
    unfinished.replace(path)


def _timeless(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """A layer is the same when the same files are in it; devices and kernel file systems are the runtime's."""
    if member.name.startswith(("proc/", "sys/", "dev/", "run/", "tmp/")):
        return None
    member.mtime = 0
    member.uname = member.gname = ""
    return member


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Counter(io.RawIOBase):
    """Counts what is written to it, and keeps nothing."""

    def __init__(self) -> None:
        self.count = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        self.count += len(content)
        return len(content)


def _compressed_size(path: Path) -> int:
    counter = _Counter()
    with path.open("rb") as file, gzip.GzipFile(fileobj=counter, mode="wb", compresslevel=6, mtime=0) as packed:
        while chunk := file.read(_CHUNK):
            packed.write(chunk)
    return counter.count
