"""`memory embeddings import`: Memory Layer's configuration file as manifests of Providers. It asks no server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import yaml

from memory_operator.client.errors import CommandError, MisuseError
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.session import Session, command
from memory_operator.contract.memory_layer import Backend, BrokenConfigError, MemoryLayerConfig, parse_config

_LOOPBACK = ("http://127.", "http://localhost", "http://[::1]")
_ON_THIS_MACHINE = frozenset({"ollama"})
"""Types whose own endpoint is on the machine of the caller."""

app = typer.Typer()


@command(app, "import")
def import_config(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Memory Layer's TOML.")],
    folder: Annotated[Path, typer.Option("--to-manifests", metavar="DIR", help="Where the manifests go.")],
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Written into them; kubectl's own if not.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace manifests that are there already.")] = False,
) -> None:
    """Write a Provider's manifest for each backend of a configuration file.

    Keys are never read nor written: each manifest names a Secret that you make. What a manifest cannot say is told on
    stderr. Exit code 5 where a backend cannot be a Provider, 6 where none can.

    [bold]Examples[/]

      memory embeddings import memory-layer.toml --to-manifests manifests
      kubectl apply -n agents -f manifests
    """
    config = _read(file)
    good = [backend for backend in config.backends if not backend.faults]
    bad = [f"{each.provider} is not written: {file.name}:{fault}" for each in config.backends for fault in each.faults]
    paths = [folder / f"{backend.provider}.yaml" for backend in good]
    _write(paths, [_manifest(backend, namespace, file) for backend in good], force=force)
    secrets = {_secret(each): each.api_key_env for each in good if each.api_key_env}
    left = [*bad, *_left_out(config, good, namespace, file)]
    if session.screen.as_json:
        made = [{"name": name, "key": key} for name, key in secrets.items()]
        session.screen.document({"written": [str(path) for path in paths], "secrets": made, "left_out": left})
    for path in [] if session.screen.as_json else paths:
        session.screen.line(str(path))
    for text in left:
        session.screen.remark(f"! {text}", "yellow")
    for name, key in secrets.items():
        where = f" -n {namespace}" if namespace else ""
        session.screen.remark(f"hint: kubectl create secret generic {name}{where} --from-literal={key}=…")
    if bad:
        session.end(ExitCode.DONE_IN_PART if good else ExitCode.NOTHING_SUCCEEDED)


def _read(file: Path) -> MemoryLayerConfig:
    try:
        return parse_config(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise MisuseError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise MisuseError(f"{file} is not UTF-8 text") from error
    except BrokenConfigError as error:
        raise MisuseError(f"{file}:{error.line}: {error.reason}") from error


def _secret(backend: Backend) -> str:
    return backend.api_key_env.lower().strip("_").replace("_", "-") or "key"


def _manifest(backend: Backend, namespace: str | None, file: Path) -> str:
    manifest = backend.manifest(namespace, _secret(backend) if backend.api_key_env else None)
    return f"# Of {file.name}, line {backend.line}.\n" + yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)


def _left_out(config: MemoryLayerConfig, good: Sequence[Backend], namespace: str | None, file: Path) -> list[str]:
    """What no manifest says, and what to do instead."""
    left = [f"{file.name}:{line}: {text}" for line, text in config.warnings]
    if config.active in good and config.active is not None:
        name = f"{namespace or 'NAMESPACE'}/{config.active.provider}"
        left.append(f"which backend is active is in no manifest: memory embeddings activate {name}")
    if not config.enabled:
        left.append("enabled = false is in no manifest: memory embeddings deactivate")
    for backend in good:
        url = str(backend.spec.get("baseURL", ""))
        if url.startswith(_LOOPBACK) or (not url and backend.spec.get("type") in _ON_THIS_MACHINE):
            left.append(f"{backend.provider} is called on this machine, which a pod does not reach: set spec.baseURL")
    return left


def _write(paths: Sequence[Path], texts: Sequence[str], *, force: bool) -> None:
    """Write all files or, where one is there already, none. Raises CommandError."""
    there = [path for path in paths if os.path.lexists(path)]
    if there and not force:
        raise CommandError(f"{there[0]} is there already; nothing was written", "give --force to replace it")
    try:
        for path, text in zip(paths, texts, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
                opened.write(text)
            Path(name).chmod(0o644)
            Path(name).replace(path)
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be written: {error.strerror}") from error
