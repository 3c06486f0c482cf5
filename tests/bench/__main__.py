"""`make bench`: every figure that the project promises, measured on this machine, as a table and as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench import (
    cluster,
    crowded_fill,
    fill,
    filters,
    gate,
    http_query,
    langgraph,
    load,
    migration,
    peer,
    query,
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
        server, options.large, options.scenario or (), options.peer_python if options.peer in peer.PEERS else None
    ),
    "query": lambda server, options: query.run(server.dsn),
    "http": lambda server, options: http_query.run(server, options.peer),
    "load": lambda server, options: load.run(server),
    "spaces": lambda server, options: crowded_fill.run(server),
    "migrations": lambda server, options: migration.run(server, options.large),
    "filters": lambda server, options: filters.run(server.dsn),
    "cluster": lambda server, options: cluster.run(server.dsn),
    "webhook": lambda server, options: asyncio.to_thread(webhook.run),
}


def main() -> None:
    """Run the benches that are asked for, print the table, write BENCH_JSON where it is set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="a million vectors where the promise is about them")
    parser.add_argument("--only", choices=sorted(BENCHES), action="append", help="run only this part")
    parser.add_argument("--scenario", choices=list(fill.SCENARIOS), action="append", help="of the fill only this one")
    parser.add_argument(
        "--peer", choices=(*peer.PEERS, langgraph.NAME), help="measure this one on the same texts and the same vendor"
    )
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that it is installed for")
    options = parser.parse_args()
    set_up_logs(level=logging.CRITICAL)
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 4:
        print(f"this machine is busy (load {load:.1f} on {cores} cores): speeds will be too low", file=sys.stderr)
    figures = asyncio.run(_run(options.only or list(BENCHES), options))
    print(table(figures))
    target = os.environ.get("BENCH_JSON")
    if target:
        Path(target).write_text(json.dumps(figures, indent=2, default=float) + "\n")
    sys.exit(0 if all(figure["holds"] is not False for figure in figures) else 1)


async def _run(names: list[str], options: argparse.Namespace) -> list[Figure]:
    figures = []
    for name in names:
        folder = open_folder()
        postgres = EmbeddedPostgres(folder / "server", settings=SERVER)
        try:
            running = await asyncio.to_thread(postgres.start)
            print(f"measuring: {name} …", file=sys.stderr)
            figures += await BENCHES[name](running, options)
        finally:
            await asyncio.to_thread(postgres.stop, "immediate")
            shutil.rmtree(folder, ignore_errors=True)
    return figures


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
