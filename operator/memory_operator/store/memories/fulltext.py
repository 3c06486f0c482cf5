"""The full-text channel: memories by their words, the more and the rarer the better.

`memory_find_by_words` in the database (migration 0024) takes the question apart in the languages of the project, and
answers three questions, each only while those before did not find enough:

1. Which memories have all the words? Ranked by how near the words are to each other.
2. Which have a rare word? A word is rare when its matches can all be looked at. Nothing is cut off here, so an old
   memory with the one word that matters is never hidden behind thousands of newer ones.
3. Which have two, then one, of the words that are left? Those are common; the newest matches stand for all.

What that costs does not grow with the store. An index shows all matches of a word or none of them, so that words which
more than TOO_COMMON chunks have are not looked for in it: of these the newest chunks of the project are read, and those
that rarer words bring are looked at for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from memory_operator.memory.search_terms import SearchTerms
from memory_operator.store.db.pool import Conn
from memory_operator.store.memories.nearest import Filters, Hit, filter_values

MAX_WORDS = 16
"""Words that are looked for one by one: the longest, which are the rarest."""

SMALL_CHUNKS = 10_000
"""Projects with fewer live chunks are narrowed down to in the index."""

TOO_COMMON = 10_000
"""Chunks of the store that have a word which no index is asked for, but in a small project."""

LISTED_MATCHING = 3_000
"""Where no more memories match a filter, their texts are looked at instead of the indexes of words."""

LISTED_MATCHING_SMALL = 300
"""The same in a small project, where the index of words shows no other project."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What decides how a project is read."""

    small: bool
    """Whether the project is (`is_small`)."""
    matching: int | None
    """Memories that match the filters, where they are few (`nearest.few_matching`)."""
    too_common: Sequence[str] = ()
    """Words that no index is asked for (`too_common`)."""


def project_lexeme(project_id: int) -> str:
    """What every chunk of a project is indexed under beside its words.

    With it the index itself narrows a search to a small project, instead of handing over the matches of all
    projects to be looked at one by one. No text can produce it: lexemes of words have no blanks.
    """
    return f"project {project_id}"


_HAS_CHUNKS = """select exists (select from memory_chunks where project_id = $1 and live order by id offset $2)"""


async def is_small(conn: Conn, project_id: int) -> bool:
    """Whether a project has fewer than SMALL_CHUNKS live chunks, found without counting further."""
    return not await conn.fetchval(_HAS_CHUNKS, project_id, SMALL_CHUNKS - 1)


# Behind the words stand the least and the largest frequency, which are those of no word.
_TOO_COMMON = """
select array(select e.word from pg_class c, pg_stats s,
    unnest(s.most_common_elems::text::text[], s.most_common_elem_freqs) as e (word, frequency)
  where c.oid = 'memory_chunks'::regclass and s.schemaname = c.relnamespace::regnamespace::text
  and s.tablename = c.relname and s.attname = 'tsv' and e.word is not null and e.frequency * c.reltuples > $1)
"""


async def too_common(conn: Conn) -> list[str]:
    """Words that more than TOO_COMMON chunks have, whoever's they are, as the planner's statistics tell."""
    return list(await conn.fetchval(_TOO_COMMON, TOO_COMMON))


class WordQuery(NamedTuple):
    """What is looked for by words: at most `limit` memories of a project."""

    project_id: int
    terms: SearchTerms
    limit: int
    filters: Filters


_FIND = """
select key, chunk_id, score, has_all from memory_find_by_words($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
  $14, $15, $16, $17, $18)
"""


async def fulltext(conn: Conn, query: WordQuery, sizes: Sizes) -> list[Hit]:
    """The memories of a project that have the words of a query, best first.

    `conn` comes from `nearest.bounded`. Raises TookTooLong.

    Scores: above 0.5 when all words are there, by how near they are to each other; otherwise half of the share
    that a memory has of the words that the project knows, rare ones weighing more.
    """
    terms, folded = query.terms, query.terms.folded
    values = filter_values(query.filters)
    most = LISTED_MATCHING_SMALL if sizes.small else LISTED_MATCHING
    few = bool(values) and sizes.matching is not None and sizes.matching <= most
    rows = await conn.fetch(
        _FIND,
        query.project_id,
        list(dict.fromkeys((terms.written, folded.written))),
        list(dict.fromkeys((terms.parts, folded.parts))),
        list(dict.fromkeys((terms.words, folded.words))),
        terms.singles,
        terms.pairs,
        terms.language,
        MAX_WORDS + terms.pairs,
        query.limit,
        query.filters.each_chunk,
        sizes.small,
        [] if sizes.small or few else sizes.too_common,
        few,
        *(values or [None] * 5),
    )
    best: dict[int, Hit] = {}
    for row in sorted(rows, key=lambda row: (-row["score"], -row["key"])):
        hit = Hit(row["key"], row["chunk_id"], row["score"], "all" if row["has_all"] else "any")
        best.setdefault(hit.key, hit)
    return list(best.values())[: query.limit]
