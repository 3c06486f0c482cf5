"""What full-text search reads does not grow with the store, whatever the words are."""

from __future__ import annotations

import pytest

from fixtures.engine import World
from fixtures.memories import Memories
from fixtures.postgres import api_url
from memory_operator.memory.search_terms import query_terms
from memory_operator.store.db.pool import Conn, open_store
from memory_operator.store.memories import fulltext
from memory_operator.store.memories.fulltext import TOO_COMMON, Sizes, WordQuery
from memory_operator.store.memories.nearest import Filters, Hit

SOME, MANY = 3 * TOO_COMMON, 6 * TOO_COMMON
MOST_READ = 2_000
"""Rows and entries of indexes: the newest matches, and next to nothing else."""

READ = """
select (select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) from pg_stat_xact_user_tables
    where relname = 'memory_chunks')
  + (select sum(pg_stat_get_xact_tuples_returned(indexrelid)) from pg_index where indrelid = 'memory_chunks'::regclass)
"""


async def grow(world: World, start: int, end: int) -> None:
    """Chunks with one of two common words each, one in fifty with both, in the project that is there."""
    await world.fetch(
        "with last as (select project_id from memory_entries order by id limit 1), e as (insert into memory_entries"
        " (canonical_id, version_no, project_id, created_by, input)"
        " select gen_random_uuid(), 1, last.project_id, 't', '' from last, generate_series($1::int, $2) returning id,"
        " project_id) insert into memory_chunks (entry_id, project_id, ordinal, text, content_hash, tsv,"
        " chunker_version, preprocessing_version) select id, project_id, 0, '', '', to_tsvector('english',"
        " case when id % 50 = 0 then 'apple cherry' when id % 2 = 0 then 'apple' else 'cherry' end)"
        " || array_to_tsvector(array['project ' || project_id]), 1, 1 from e",
        start + 1,
        end,
    )
    await world.fetch("analyze memory_chunks")


async def search(world: World, question: str, sizes: Sizes) -> tuple[list[Hit], int]:
    """What is found, and how many rows and entries of indexes were read for it."""
    async with world.store.connection() as conn, conn.transaction():
        query, before = await word_query(conn, question), await conn.fetchval(READ)
        return await fulltext.fulltext(conn, query, sizes), await conn.fetchval(READ) - before


async def word_query(conn: Conn, question: str) -> WordQuery:
    project = await conn.fetchval("select min(project_id) from memory_chunks")
    return WordQuery(project, query_terms(question), 60, Filters())


@pytest.fixture
async def grown(memories: Memories) -> Memories:
    """One old memory with a rare word, and so many of common words that no index is asked for them."""
    await memories.add("An apple, a cherry and one quokka.")
    await grow(memories.world, 0, SOME)
    return memories


async def test_a_question_of_common_words_reads_as_much_of_a_store_of_twice_the_size(grown: Memories) -> None:
    world = grown.world
    read = []
    for size in (SOME, MANY):
        await grow(world, SOME, size)
        async with await open_store(api_url(world.dsn), application="memory-api") as store, store.connection() as conn:
            common = await fulltext.too_common(conn)  # by the role that may not change the schema
        assert {"appl", "cherri"} <= set(common)
        found, rows = await search(world, "apple cherry", Sizes(small=False, matching=None, too_common=common))
        assert len(found) == 60
        assert found[0].matched == "all"
        read.append(rows)
    assert max(read) <= MOST_READ
    _, unbounded = await search(world, "apple cherry", Sizes(small=False, matching=None))
    assert unbounded > 10 * max(read), "the words are common enough to tell"


async def test_a_rare_word_among_common_ones_is_found_however_old_it_is(grown: Memories) -> None:
    async with grown.world.store.connection() as conn:
        sizes = Sizes(small=False, matching=None, too_common=await fulltext.too_common(conn))
    for question, matched in (("cherry quokka apple", "all"), ("cherry quokka nowhere", "any")):
        found, rows = await search(grown.world, question, sizes)
        assert (found[0].matched, found[0].chunk_id) == (matched, min(hit.chunk_id for hit in found))
        assert len(found) == 60
        assert rows <= MOST_READ


async def test_words_that_are_too_common_are_known_once_the_store_was_analysed(memories: Memories) -> None:
    await memories.add("An apple.")
    async with memories.world.store.connection() as conn:
        assert await fulltext.too_common(conn) == []


async def test_common_words_with_a_filter_find_what_matches_it_however_old_that_is(grown: Memories) -> None:
    world = grown.world
    await world.fetch("update memory_entries set created_at = now() - interval '1 year' where id % 5 = 1 and id < 6000")
    before = await world.value("select now() - interval '1 month'")
    async with world.store.connection() as conn:
        sizes = Sizes(small=False, matching=None, too_common=await fulltext.too_common(conn))
        query = (await word_query(conn, "apple cherry"))._replace(filters=Filters(created_before=before))
        found = await fulltext.fulltext(conn, query, sizes)
        old = await conn.fetchval(
            "select count(*) from memory_entries where id = any($1) and created_at < $2",
            [hit.key for hit in found],
            before,
        )
    assert len(found) == old == 60
