"""`make quality`: how good the answers are, on sets made here and on those of JUDGED=DIR, as a table and as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fixtures.postgres import FAST, open_folder
from memory_operator.dev.postgres.server import EmbeddedPostgres
from memory_operator.engine.memories.channels import ChannelName
from memory_operator.logs import set_up_logs
from quality.metrics import interval, ndcg, recall, reciprocal_rank
from quality.sets import MADE, Judged, made, read
from quality.stocked import DIMENSIONS, Stocked, stocked

CANDIDATES = 40
DEPTH = 10
ALWAYS = ("documentation", "glosses")
WAYS = ("default", "full-text", "semantic", "RRF 60", "RRF 2")

Rankings = Mapping[str, Sequence[Sequence[str]]]
"""By way of answering, the ranking of each question."""


@dataclass(frozen=True)
class Row:
    """How good one way of answering is on one set."""

    judged: str
    model: str
    way: str
    questions: int
    ndcg: float
    recall: float
    mrr: float
    low: float
    high: float
    """Of the difference of its nDCG@10 to the default's, in 95 of 100 resamples; nothing for the default itself."""


def main() -> None:
    """Measure the sets that are asked for, print the table, write QUALITY_JSON where it is set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judged", type=Path, help="a folder of sets: corpus.jsonl, queries.jsonl, qrels.tsv in each")
    parser.add_argument("--set", action="append", help="only this one")
    parser.add_argument("--model", choices=list(DIMENSIONS), action="append", help="only this one")
    parser.add_argument("--all-made", action="store_true", help="all sets that are made here; else only two of them")
    parser.add_argument("--seed", type=int, default=1, help="what the made sets are drawn with")
    options = parser.parse_args()
    set_up_logs(level=logging.CRITICAL)
    rows = asyncio.run(_run(list(_sets(options)), options.model or list(DIMENSIONS)))
    print(table(rows))
    target = os.environ.get("QUALITY_JSON")
    if target:
        Path(target).write_text(json.dumps([vars(row) for row in rows], indent=2) + "\n")


def _sets(options: argparse.Namespace) -> Iterator[Judged]:
    yield from made(options.set or (MADE if options.all_made else ALWAYS), options.seed)
    folders = sorted(options.judged.iterdir()) if options.judged else []
    for folder in folders:
        if (folder / "qrels.tsv").exists() and (not options.set or folder.name in options.set):
            yield read(folder)


async def _run(sets: Sequence[Judged], models: Sequence[str]) -> list[Row]:
    folder = open_folder()
    postgres = EmbeddedPostgres(folder / "server", settings=FAST)
    rows = []
    try:
        running = await asyncio.to_thread(postgres.start)
        async with stocked(running.dsn, models) as store:
            for judged in sets:
                print(f"storing: {judged.name}, {len(judged.corpus)} documents …", file=sys.stderr)
                await store.add(judged)
            await store.settle()
            for judged in sets:
                for model in models:
                    print(f"measuring: {judged.name}, {model} …", file=sys.stderr)
                    rows += _rows(judged, model, await _answers(store, judged, model))
    finally:
        await asyncio.to_thread(postgres.stop, "immediate")
        shutil.rmtree(folder, ignore_errors=True)
    return rows


async def _answers(store: Stocked, judged: Judged, model: str) -> Rankings:
    """What each way of answering finds for each question."""
    ways: dict[str, list[Sequence[str]]] = {name: [] for name in WAYS}
    for question in judged.queries.values():

        async def found(count: int, *channels: ChannelName, question: str = question) -> Sequence[str]:
            return await store.ranking(judged.name, model, question, count, channels)

        ways["default"].append(await found(DEPTH, "fulltext", "semantic"))
        words, meaning = await found(CANDIDATES, "fulltext"), await found(CANDIDATES, "semantic")
        ways["full-text"].append(words)
        ways["semantic"].append(meaning)
        ways["RRF 60"].append(_by_rank((words, meaning), 60))
        ways["RRF 2"].append(_by_rank((words, meaning), 2))
    return ways


def _by_rank(rankings: Sequence[Sequence[str]], constant: int) -> Sequence[str]:
    """Reciprocal rank fusion with equal weights."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, document in enumerate(ranking, start=1):
            scores[document] = scores.get(document, 0.0) + 1 / (constant + rank)
    return sorted(scores, key=lambda document: -scores[document])


def _rows(judged: Judged, model: str, ways: Rankings) -> list[Row]:
    grades = [judged.grades[query] for query in judged.queries]

    def each(way: str) -> list[float]:
        return [ndcg(ranking, of) for ranking, of in zip(ways[way], grades, strict=True)]

    default, rows = each("default"), []
    for way, rankings in ways.items():
        values = each(way)
        low, high = interval([value - ours for value, ours in zip(values, default, strict=True)])
        pairs = list(zip(rankings, grades, strict=True))
        rows.append(
            Row(
                judged.name,
                model,
                way,
                len(values),
                statistics.fmean(values),
                statistics.fmean(recall(ranking, of) for ranking, of in pairs),
                statistics.fmean(reciprocal_rank(ranking[:DEPTH], of) for ranking, of in pairs),
                low,
                high,
            )
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """The figures as text for people."""
    lines = [f"{'set':14} {'model':22} {'way':10} nDCG@10  recall   MRR  difference to the default"]
    for row in rows:
        difference = "" if row.way == "default" else f"{row.low:+.3f} … {row.high:+.3f}{_verdict(row)}"
        figures = f"{row.ndcg:7.3f} {row.recall:7.3f} {row.mrr:5.3f}"
        lines.append(f"{row.judged:14} {row.model:22} {row.way:10} {figures}  {difference}")
    return "\n".join(line.rstrip() for line in lines)


def _verdict(row: Row) -> str:
    """Whether a difference is more than chance: none of the 95 in 100 resamples lies on the other side."""
    if row.high < 0:
        return "  worse"
    return "  better" if row.low > 0 else ""


if __name__ == "__main__":
    main()
