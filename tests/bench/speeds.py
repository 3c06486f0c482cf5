"""Figures of one run of clients, named alike: what it did, how long it took, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping

from bench import libraries
from bench.figures import Figure, exactly, told
from bench.wrk import Load

_VERBS = {libraries.SEARCH: "searches", libraries.FILTERED: "filtered searches", libraries.PUT: "puts"}


def clients_of(number: int) -> str:
    """As figures name them."""
    return f"{number} client{'s' if number > 1 else ''}"


def speed(what: str, load: Load, verb: str) -> list[Figure]:
    """Rate, percentiles, and answers that were none or not whole, of which nothing may be."""
    return [
        told(f"{what}: {verb}", load.rate, "1/s"),
        told(f"{what}: p50", load.p50, "ms"),
        told(f"{what}: p99", load.p99, "ms"),
        exactly(f"{what}: answered 503", load.busy, "", 0),
        exactly(f"{what}: other errors", load.refused, "", 0),
        exactly(f"{what}: incomplete", load.incomplete, "", 0),
    ]


def compared(what: str, verb: str, peer: str) -> str:
    """The name of a ratio."""
    return f"{what}: {verb}, of {libraries.TITLES[peer]}'s"


def of_library(name: str, peer: str, seen: Mapping[str, Mapping[int, libraries.Seen]]) -> list[Figure]:
    """What a library did."""
    figures = []
    for work, by_clients in seen.items():
        for clients, found in by_clients.items():
            what = f"{name}, {libraries.TITLES[peer]}, {clients_of(clients)}"
            figures += [
                told(f"{what}: {_VERBS[work]}", found.rate, "1/s"),
                told(f"{what}: {_VERBS[work]}, p50", found.p50, "ms"),
                told(f"{what}: {_VERBS[work]}, p99", found.p99, "ms"),
            ]
    return figures
