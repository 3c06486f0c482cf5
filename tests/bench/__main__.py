"""`make bench`: every figure that the project promises, measured on this machine, as a table and as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import (
    add,
    cluster,
    crowded_fill,
    fill,
    filters,
    gate,
    http_query,
    large,
    libraries,
    load,
    migration,
    peer,
    query,
    start,
    webhook,
)
from bench.figures import Figure
from fixtures.postgres import open_folder
from memory_operator.dev.postgres.server import EmbeddedPostgres, RunningPostgres
from memory_operator.logs import set_up_logs

SERVER = {
    "shared_buffers": "1GB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "8GB",
    # Says when rows were committed, to whom looks afterwards.
    "track_commit_timestamp": "on",
}
"""The settings that the figures are promised for."""

Scenario = Callable[[RunningPostgres, argparse.Namespace], Awaitable[list[Figure]]]

BENCHES: dict[str, Scenario] = {
    "gate": lambda server, options: gate.run(server, options.large),
    "fill": lambda server, options: fill.run(
        server,
        options.large,
        options.scenario or (),
        options.peer_python if set(options.peer) & set(peer.PEERS) else None,
    ),
    "query": lambda server, options: query.run(server.dsn),
    "http": lambda server, options: http_query.run(server, _wanted(options)),
    "add": lambda server, options: add.run(server, _wanted(options), options.soak),
    "start": lambda server, options: start.run(server),
    "load": lambda server, options: load.run(server),
    "spaces": lambda server, options: crowded_fill.run(server),
    "migrations": lambda server, options: migration.run(server, options.large),
    "filters": lambda server, options: filters.run(server.dsn),
    "cluster": lambda server, options: cluster.run(server.dsn),
    "webhook": lambda server, options: asyncio.to_thread(webhook.run),
    "large": lambda server, options: large.run(server, options.seconds, options.chunks or large.CHUNKS),
}
ONLY_LARGE = "large"
"""Measured with --large, or where it is named; its server is kept."""


def _vecshift(options: argparse.Namespace) -> str | None:
    return options.peer_python if set(options.peer) & set(peer.PEERS) else None


def _wanted(options: argparse.Namespace) -> http_query.Wanted:
    peers = [name for name in libraries.TITLES if name in options.peer]
    return http_query.Wanted(peers, options.chunks or http_query.CHUNKS, options.seconds)


def main() -> None:
    """Run the benches that are asked for, print the table, write BENCH_JSON where it is set."""
    options = _options()
    set_up_logs(level=logging.CRITICAL)
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 4:
        print(f"this machine is busy (load {load:.1f} on {cores} cores): speeds will be too low", file=sys.stderr)
    figures = asyncio.run(_run(options.only or _usual(large=options.large), options))
    print(table(figures))
    target = os.environ.get("BENCH_JSON")
    if target:
        Path(target).write_text(json.dumps(figures, indent=2, default=float) + "\n")
    sys.exit(0 if all(figure["holds"] is not False for figure in figures) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="a million vectors where the promise is about them")
    parser.add_argument("--only", choices=sorted(BENCHES), action="append", help="run only this part")
    parser.add_argument("--scenario", choices=list(fill.SCENARIOS), action="append", help="of the fill only this one")
    parser.add_argument(
        "--peer",
        choices=(*peer.PEERS, *libraries.TITLES),
        action="append",
        default=[],
        help="measure this one on the same texts and the same vectors; may be given again",
    )
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that vecshift is installed for")
    parser.add_argument("--chunks", type=int, help="of http, add and large; 50,000, and 1,000,000 for large")
    parser.add_argument(
        "--seconds", type=int, default=http_query.SECONDS, help="of each run of http, add and large; 10"
    )
    parser.add_argument("--soak", type=int, default=add.SOAK_SECONDS, help="seconds of add's long run; 20, 0 for none")
    parser.add_argument("--store", type=Path, default=Path(".bench"), help="where the million is kept; .bench")
    parser.add_argument("--fresh", action="store_true", help="remove what is kept there, and build it again")
    return parser.parse_args()


def _usual(*, large: bool) -> list[str]:
    return [name for name in BENCHES if large or name != ONLY_LARGE]


async def _run(names: list[str], options: argparse.Namespace) -> list[Figure]:
    figures = []
    for name in names:
        with _server(name, options) as postgres:
            running = await asyncio.to_thread(postgres.start)
            print(f"measuring: {name} …", file=sys.stderr)
            figures += await BENCHES[name](running, options)
    return figures


@contextmanager
def _server(name: str, options: argparse.Namespace) -> Iterator[EmbeddedPostgres]:
    """A server for one part, gone with it, but for that of ONLY_LARGE."""
    if name == ONLY_LARGE:
        if options.fresh:
            shutil.rmtree(options.store, ignore_errors=True)
        postgres = EmbeddedPostgres(large.kept_folder(options.store), settings=SERVER | large.SETTINGS)
        try:
            yield postgres
        finally:
            postgres.stop()
        return
    folder = open_folder()
    postgres = EmbeddedPostgres(folder / "server", settings=SERVER)
    try:
        yield postgres
    finally:
        postgres.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def table(figures: list[Figure]) -> str:
    """The figures as text for people."""
    rows = [("what", "measured", "unit", "target", "holds")]
    for figure in figures:
        holds = {True: "yes", False: "NO", None: "-"}[figure["holds"]]
        target = "-" if figure["target"] is None else _number(figure["target"])
        rows.append((figure["name"], _number(figure["value"]), figure["unit"], target, holds))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1_000 else f"{value:.3g}"


if __name__ == "__main__":
    main()
