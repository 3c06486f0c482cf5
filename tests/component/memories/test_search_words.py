"""The full-text channel: exact identifiers, phrases, rare words among common ones, filters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from fixtures.memories import Memories
from memory_operator.engine.memories.answer import RecallAnswer
from memory_operator.memory.fusion import COUNTED
from memory_operator.store.memories.fulltext import SMALL_CHUNKS
from memory_operator.store.memories.nearest import Filters


def texts(answer: RecallAnswer) -> list[str]:
    return [result.text for result in answer.results]


@pytest.fixture
async def stocked(memories: Memories) -> Memories:
    """Memories about different things, and no space: full-text alone."""
    for text in (
        "Call foo_bar.baz before the first commit.",
        "The parser lives in crates/memory/src/main.rs and nowhere else.",
        "Run `memory mcp run --port 8080` to start the server.",
        "getUserById returns null for unknown users.",
        "Agents recover context after an interruption from the journal.",
        "After recovering, context of agents is read again.",
        "The config is at /etc/memory/config.yaml on every node.",
        "Release v1.2.3 fixed CVE-2024-1234 in HTTPServer.",
        "Das Gr\u00f6\u00dfte: na\u00efve caf\u00e9 text.",
    ):
        await memories.add(text)
    return memories


@pytest.mark.parametrize(
    ("query", "start"),
    [
        ("foo_bar.baz", "Call foo_bar.baz"),
        ("bar.baz", "Call foo_bar.baz"),
        ("baz", "Call foo_bar.baz"),
        ("foo_bar", "Call foo_bar.baz"),
        ("where is foo_bar.baz?", "Call foo_bar.baz"),
        ("crates/memory/src/main.rs", "The parser"),
        ("main.rs", "The parser"),
        ("src/main.rs:42", "The parser"),
        ("Where is memory mcp run implemented?", "Run `memory"),
        ("--port 8080", "Run `memory"),
        ("getUserById", "getUserById"),
        ("user by id", "getUserById"),
        ("/etc/memory/config.yaml", "The config"),
        ("config.yaml", "The config"),
        ("CVE-2024-1234", "Release"),
        ("v1.2.3", "Release"),
        ("http server", "Release"),
        ("cafe\u0301", "Das Gr"),
        ("gr\u00f6\u00dfte", "Das Gr"),
        ("How do agents recover context after interruption?", "Agents recover"),
    ],
)
async def test_identifiers_paths_and_commands_are_found_by_the_whole_and_by_their_parts(
    stocked: Memories, query: str, start: str
) -> None:
    answer = await stocked.query(query)
    assert texts(answer)[0].startswith(start)
    assert answer.results[0].match_kind == "fulltext"


async def test_a_quoted_phrase_is_found_in_that_order_first(stocked: Memories) -> None:
    found = texts(await stocked.query('"agents recover context"'))
    assert found[0].startswith("Agents recover")
    answer = await stocked.query('"memory mcp run"')
    assert answer.results[0].diagnostics.channels["fulltext"].matched == "all"
    assert answer.results[0].text.startswith("Run `memory")


async def test_all_words_come_before_some_words(stocked: Memories) -> None:
    answer = await stocked.query("context of agents read again")
    assert texts(answer)[0].startswith("After recovering")
    kinds = [result.diagnostics.channels["fulltext"].matched for result in answer.results]
    assert kinds[0] == "all"
    assert "any" in kinds
    scores = [result.diagnostics.fulltext_score for result in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)


@pytest.mark.parametrize(
    "query",
    ["the of and", "'", "\\", "a' | 'b", "!!!", "& | ! ( )", '"unbalanced', "-", "-foo", ":*", "\u6f22", "%s $1"],
)
async def test_a_query_is_never_an_expression_that_can_break(stocked: Memories, query: str) -> None:
    answer = await stocked.query(query)
    assert answer.diagnostics.channels["fulltext"].status == "ok"


async def test_a_very_long_query_is_cut_instead_of_failing(stocked: Memories) -> None:
    answer = await stocked.query("crates/memory/src/main.rs " + "unknownword " * 50_000)
    assert answer.diagnostics.channels["fulltext"].status == "ok"
    assert texts(answer)[0].startswith("The parser")


async def test_tags_and_summary_find_a_memory_too(stocked: Memories) -> None:
    await stocked.add("Plain words only.", tags=("kubernetes", "on-call"), summary="A zebra crossing.")
    answer = await stocked.query("kubernetes")
    assert texts(answer) == ["Plain words only."]
    assert answer.results[0].diagnostics.matched_tags == ["kubernetes"]
    assert texts(await stocked.query("zebra")) == ["Plain words only."]


async def test_an_old_rare_word_is_found_among_thousands_of_newer_common_ones(memories: Memories) -> None:
    await memories.add("common words here and one quokka")
    await _copies(memories, "common words here and there", 6_000)
    assert "quokka" in texts(await memories.query("quokka"))[0]
    assert "quokka" in texts(await memories.query("common quokka nowhere", k=1))[0]


async def test_a_small_project_is_found_beside_a_big_one_with_the_same_words(memories: Memories) -> None:
    for number in range(3):
        await memories.add(f"shared words number {number}", project="small")
    await memories.add("shared words and a quokka", project="big")
    await _copies(memories, "shared words of the big project", SMALL_CHUNKS, project="big")
    for query in ("shared words", "shared nowhere", "words of nothing shared"):
        assert len((await memories.query(query, project="small")).results) == 3
        assert (await memories.query(query, project="big", k=1)).diagnostics.channels["fulltext"].hits == COUNTED
    assert (await memories.query("quokka", project="small")).results == ()
    assert "quokka" in texts(await memories.query("shared quokka nowhere", project="big", k=1))[0]


async def test_two_common_words_together_are_found_before_the_newest_with_one(memories: Memories) -> None:
    await memories.add("apple and banana, long ago")
    await _copies(memories, "apple alone", 1_000)
    await _copies(memories, "banana alone", 1_000)
    assert texts(await memories.query("apple banana unicorn", k=1)) == ["apple and banana, long ago"]


async def test_a_memory_of_many_chunks_is_one_result_and_hides_no_other(memories: Memories) -> None:
    for number in range(5):
        await memories.add(f"needle number {number}")
    await memories.add("\n\n".join(f"needle in paragraph {number}. " * 40 for number in range(80)))
    answer = await memories.query("needle", k=10)
    assert len(answer.results) == 6
    assert len({result.id for result in answer.results}) == 6
    long = next(result for result in answer.results if "paragraph" in result.text)
    assert len(long.text) <= 1_200


async def test_filters_narrow_what_is_found(stocked: Memories) -> None:
    stored: dict[str, UUID] = {}
    for name, fields in {
        "a": {"type": "fact", "tags": ("x", "y"), "source": "slack"},
        "b": {"type": "fact", "tags": ("x",), "source": "mail"},
        "c": {"type": "task", "tags": ("y",), "source": "slack"},
    }.items():
        stored[name] = (await stocked.add(f"filtered thing {name}", **fields)).id
    now = datetime.now(UTC)

    async def found(**wanted: object) -> set[str]:
        answer = await stocked.query("filtered thing", filters=Filters(**wanted))  # type: ignore[arg-type]
        return {result.text[-1] for result in answer.results}

    assert await found(type="fact") == {"a", "b"}
    assert await found(tags=("x", "y")) == {"a"}
    assert await found(source="slack") == {"a", "c"}
    assert await found(type="fact", source="slack", tags=("x",)) == {"a"}
    assert await found(created_after=now) == set()
    assert await found(created_before=now) == {"a", "b", "c"}
    assert await found(created_after=now - timedelta(hours=1), created_before=now) == {"a", "b", "c"}
    assert await found(type="none") == set()


async def _copies(memories: Memories, text: str, count: int, project: str = "default") -> None:
    """Many memories of one text, made by the database."""
    await memories.add(text, project=project)
    await memories.world.fetch(
        "with last as (select * from memory_entries order by id desc limit 1), e as (insert into memory_entries"
        " (canonical_id, version_no, project_id, created_by, input)"
        f" select gen_random_uuid(), 1, last.project_id, 't', '' from last, generate_series(1, {count})"
        " returning id, project_id)"
        " insert into memory_chunks (entry_id, project_id, ordinal, text, content_hash, tsv, chunker_version,"
        " preprocessing_version) select e.id, e.project_id, 0, c.text, c.content_hash, c.tsv, 1, 1 from e,"
        " (select * from memory_chunks order by id desc limit 1) c"
    )
