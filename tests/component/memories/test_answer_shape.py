"""The shape of answers: weak results, equal texts, chunks and their neighbours, long questions."""

from __future__ import annotations

import pytest

from fixtures.memories import Memories, config
from memory_operator.engine.memories.answer import RecallAnswer
from memory_operator.engine.memories.recall import QueryOptions
from memory_operator.store.memories.nearest import Filters


def texts(answer: RecallAnswer) -> list[str]:
    return [result.text for result in answer.results]


async def test_results_below_the_least_score_are_left_out(memories: Memories) -> None:
    await memories.add("apple and banana together")
    await memories.add("banana alone among other fruit")
    scores = [result.score for result in (await memories.query("apple banana")).results]
    assert len(scores) == 2
    least = QueryOptions(min_score=scores[0])
    assert texts(await memories.query("apple banana", options=least)) == ["apple and banana together"]


async def test_equal_texts_are_one_result_that_names_the_others_and_makes_room(memories: Memories) -> None:
    equal = ("Deploys go out at noon.", "deploys  go out at noon", "“Deploys go out at noon!”")
    same = [(await memories.add(text)).id for text in equal]
    await memories.add("Deploys of the web shop go out at noon, others later.")
    answer = await memories.query("deploys noon", k=2)
    assert len(answer.results) == 2
    [folded] = [result for result in answer.results if result.also]
    assert {folded.id, *folded.also} == set(same)
    every = await memories.query("deploys noon", options=QueryOptions(fold=False))
    assert (len(every.results), {result.also for result in every.results}) == (4, {()})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The limit is x > 5 there.", "The limit is x < 5 there."),
        ("Write it in C please.", "Write it in C++ please."),
        ("Release 1.2.3 is fine.", "Release 1.2.4 is fine."),
        ("Never restart it by hand.", "Restart it by hand."),
    ],
)
async def test_texts_that_say_something_else_stay_two_results(memories: Memories, one: str, other: str) -> None:
    await memories.add(one)
    await memories.add(other)
    assert sorted(texts(await memories.query(f"{one} {other}"))) == sorted((one, other))


async def _long(memories: Memories) -> list[str]:
    """A memory of many chunks, every second of which has the word; its chunks."""
    paragraphs = [
        f"{'needle' if number % 2 else 'straw'} stands in part {number}. " + f"Filling number {number}. " * 45
        for number in range(6)
    ]
    await memories.add("\n\n".join(paragraphs))
    await memories.add("A short memory with a needle.")
    return paragraphs


@pytest.mark.parametrize("semantic", [False, True])
async def test_chunks_are_found_each_by_itself(memories: Memories, semantic: bool) -> None:
    if semantic:
        await memories.space(config())
    await _long(memories)
    assert len((await memories.query("needle", k=20)).results) == 2
    answer = await memories.query("needle", k=20, options=QueryOptions(granularity="chunk"))
    found = [(result.id, result.chunk) for result in answer.results]
    assert len(found) == len(set(found))
    with_needle = [text for text in texts(answer) if "needle" in text]
    assert len(with_needle) == 4
    filtered = await memories.query(
        "needle", k=20, filters=Filters(type="none"), options=QueryOptions(granularity="chunk")
    )
    assert filtered.results == ()


async def test_a_chunk_comes_with_its_neighbours(memories: Memories) -> None:
    await _long(memories)
    options = QueryOptions(granularity="chunk", context=1)
    answer = await memories.query('"part 3"', k=1, options=options)
    [result] = answer.results
    assert "part 3" in result.text
    whole = await memories.query('"part 2"', k=1, options=QueryOptions(granularity="chunk"))
    assert len(result.before) == len(result.after) == 1
    assert result.before[0] != result.text != result.after[0]
    assert whole.results[0].before == whole.results[0].after == ()
    [short] = (await memories.query("short memory", k=1, options=options)).results
    assert short.before == short.after == ()


async def test_a_long_question_says_how_much_of_it_was_used(memories: Memories) -> None:
    await memories.add("The needle is here.")
    assert (await memories.query("needle")).diagnostics.cut is None
    cut = (await memories.query("needle " + "straw and more straw. " * 200)).diagnostics.cut
    assert cut is not None
    assert (cut.characters, cut.fulltext) == (7 + 22 * 200 - 1, 2_000)
    assert 0 < cut.semantic < 2_000
