"""The options of the process: a field is a flag, an environment variable, and a row in the docs."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_type_hints

from memory_operator.logs import LogFormat

PREFIX = "MEMORY_WEBHOOK_"
_SHORTEST_SECONDS = 0.05


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600 seconds")
    return number


def _interval(text: str) -> float:
    number = _seconds(text)
    if number < _SHORTEST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} is below {_SHORTEST_SECONDS} seconds")
    return number


def _word(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            raise argparse.ArgumentTypeError(f"{text} is none of {', '.join(words)}")
        return text.lower()

    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a process was told, read once. Beside each type: what reads it, and what it is."""

    host: Annotated[str, str, "address of the TLS port"] = "0.0.0.0"  # noqa: S104 - the API server calls from outside
    port: Annotated[int, _port, "the TLS port"] = 9443
    probe_host: Annotated[str, str, "address of the port for probes"] = "0.0.0.0"  # noqa: S104 - the kubelet as well
    probe_port: Annotated[int, _port, "port of /livez, /readyz and /metrics"] = 8081
    tls_cert: Annotated[Path, Path, "PEM file with the certificate and its chain"]
    tls_key: Annotated[Path, Path, "PEM file with its key"]
    reload_seconds: Annotated[float, _interval, "how often the TLS files are looked at"] = 2
    drain_seconds: Annotated[float, _seconds, "how long requests are still taken after SIGTERM"] = 1
    log_format: Annotated[LogFormat, _word("text", "json"), "text or json"] = "text"
    log_level: Annotated[str, _word("debug", "info", "warning", "error"), "debug, info, warning or error"] = "info"


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings that flags and environment give. Exits 2 with the usage where they cannot be read."""
    return Settings(**vars(options(environment).parse_args(arguments)))


def variable(flag: str) -> str:
    """The environment variable of a flag."""
    return PREFIX + flag.removeprefix("--").replace("-", "_").upper()


def options(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """The parser of all flags, with defaults from the environment."""
    parser = argparse.ArgumentParser(
        prog="memory-webhook",
        description="Warns at kubectl apply time of what an edit of an embedding Provider costs or discards. Advisory: "
        "it allows every change.",
        epilog=f"Each flag has an environment variable: --tls-cert is {PREFIX}TLS_CERT, and so on. The flag wins.",
    )
    hints = get_type_hints(Settings, include_extras=True)
    for field in dataclasses.fields(Settings):
        flag = f"--{field.name.replace('_', '-')}"
        kind, text = hints[field.name].__metadata__
        required = field.default is dataclasses.MISSING
        # Text, so that a default goes through `kind` too, and the environment is checked like a flag.
        given = environment.get(variable(flag)) or (None if required else str(field.default))
        text += " (required)" if required else f" ({field.default})"
        parser.add_argument(flag, type=kind, default=given, required=given is None, metavar="X", help=text)
    return parser
