"""The ways of looking that are compared, and the rankings that each of them gives, asked over HTTP like anybody's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from memory_operator.client.errors import MisunderstoodError
from memory_operator.client.server.api import ApiClient

DEFAULT = "default"
NOT_RERANKED: Mapping[str, Mapping[str, Any]] = {"rerank": {"top": 0}}


@dataclass(frozen=True, slots=True)
class Way:
    """One way of looking: what a query says beside its text."""

    name: str
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Rankings:
    """What one way found."""

    way: Way
    by_question: dict[str, list[str]] = field(default_factory=dict)
    """Ids of memories, best first."""
    short: Counter[str] = field(default_factory=Counter)
    """Answers that a channel is missing from, by the reason."""


def ways_of(
    active: str | None, others: Sequence[str], *, named: bool, rerank: Mapping[str, Any] | None = None
) -> list[Way]:
    """The default and each channel alone; the same in the other spaces. `named` asks `active` by its name.

    No channel alone is re-ranked. With `rerank`, which a query says of it, no default is either, and one more way is.
    """
    space = {"embedding_version": active} if named else {}
    as_usual = {} if rerank is None else NOT_RERANKED
    ways = [Way(DEFAULT, {**space, **as_usual})]
    if rerank is not None and rerank != NOT_RERANKED["rerank"]:
        ways.append(Way("re-ranked", {**space, "rerank": rerank}))
    ways.append(Way("full-text alone", {"channels": ["fulltext"], **NOT_RERANKED}))
    if active is not None:
        ways.append(Way("semantic alone", {**space, "channels": ["semantic"], **NOT_RERANKED}))
    for version in others:
        in_it = {"embedding_version": version}
        ways.append(Way(f"default in {version}", {**in_it, **as_usual}))
        ways.append(Way(f"semantic in {version}", {**in_it, "channels": ["semantic"], **NOT_RERANKED}))
    return ways


def ask_all(
    api: ApiClient,
    ways: Sequence[Way],
    questions: Mapping[str, str],
    common: Mapping[str, Any],
    in_flight: int,
    tell: Callable[[int], None],
) -> list[Rankings]:
    """Each question in each way, one way after the other for one question, so that load is the same for all of them.

    `common` is what all bodies say: project and k. Raises CommandError.
    """
    found = [Rankings(way) for way in ways]
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="memory-eval")
    try:
        asks: dict[Future[Any], tuple[Rankings, str]] = {}
        for question, text in questions.items():
            for rankings in found:
                body = {**common, **rankings.way.body, "query": text}
                asks[pool.submit(api.query, body)] = (rankings, question)
        for done, future in enumerate(as_completed(asks), 1):
            rankings, question = asks[future]
            _note(rankings, question, future.result())
            tell(done)
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _note(rankings: Rankings, question: str, document: Any) -> None:
    try:
        # Memories with the same text are one result, which names the others.
        rankings.by_question[question] = [
            str(memory) for result in document["results"] for memory in (result["id"], *result.get("also", ()))
        ]
        diagnostics = document["diagnostics"]
        statuses = [str(channel["status"]) for channel in diagnostics["channels"].values()]
        semantic = str(diagnostics["semantic_status"])
        reranked = str((diagnostics.get("rerank") or {}).get("status", "ok"))
    except (AttributeError, KeyError, TypeError) as error:
        raise MisunderstoodError("the server's answer to a query was not understood") from error
    rankings.short.update(status for status in statuses if status in ("timeout", "unavailable"))
    if semantic in ("filling", "embedder_unavailable"):
        rankings.short[semantic] += 1
    if reranked != "ok":
        rankings.short["not re-ranked"] += 1
