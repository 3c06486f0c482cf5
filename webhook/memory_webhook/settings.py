"""The options of the process: flags, and an environment variable for each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "MEMORY_WEBHOOK_"
_SHORTEST_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process was told, read once."""

    host: str
    port: int
    """Of the TLS port; 0 takes a free one, which the log names."""
    probe_host: str
    probe_port: int
    tls_cert: Path
    tls_key: Path
    reload_seconds: float
    """How often the TLS files are looked at."""
    drain_seconds: float
    """How long after SIGTERM requests are still taken while /readyz already says no."""
    log_format: str
    log_level: str


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

    def option(flag: str, kind: Callable[[str], Any], text: str, default: str | None = None) -> None:
        given = environment.get(variable(flag)) or default
        text += " (required)" if default is None else f" ({default})"
        # A default that is text goes through `kind` too, so the environment is checked like a flag.
        parser.add_argument(flag, type=kind, default=given, required=given is None, metavar="X", help=text)

    option("--host", str, "address of the TLS port", "0.0.0.0")  # noqa: S104 - the API server calls from outside
    option("--port", _port, "the TLS port", "9443")
    option("--probe-host", str, "address of the port for probes", "0.0.0.0")  # noqa: S104 - the kubelet as well
    option("--probe-port", _port, "port of /livez, /readyz and /metrics", "8081")
    option("--tls-cert", Path, "PEM file with the certificate and its chain")
    option("--tls-key", Path, "PEM file with its key")
    option("--reload-seconds", _interval, "how often the TLS files are looked at", "2")
    option("--drain-seconds", _seconds, "how long requests are still taken after SIGTERM", "1")
    option("--log-format", _word("text", "json"), "text or json", "text")
    option("--log-level", _word("debug", "info", "warning", "error"), "debug, info, warning or error", "info")
    return parser


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
