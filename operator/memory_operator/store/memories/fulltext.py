"""The full-text channel: memories by their words, the more and the rarer the better.

Three questions, each answered only while the one before did not find enough, the first two by one statement:

1. Which memories have all the words? Ranked by how near the words are to each other.
2. Which have a rare word? A word is rare when its matches can all be looked at. Nothing is cut off here, so an old
   memory with the one word that matters is never hidden behind thousands of newer ones.
3. Which have two, then one, of the words that are left? Those are common; the newest matches stand for all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from memory_operator.memory.search_terms import SearchTerms
from memory_operator.store.db.pool import Conn, fetch_one
from memory_operator.store.memories.nearest import (
    MATCHING_CHUNKS,
    Filters,
    Hit,
    filter_condition,
    filter_values,
)

ENOUGH_MATCHES = 2_000
"""Matches of all words that are ranked; of more than that, the newest ones."""

MAX_WORDS = 16
"""Words that are looked for one by one: the longest, which are the rarest."""

RARE_MATCHES = 128
"""A word with more matches than this in a project is common."""

SMALL_CHUNKS = 10_000
"""Projects with fewer live chunks are narrowed down to in the index."""

LISTED_MATCHING = 3_000
"""Where no more memories match a filter, their texts are looked at instead of the indexes of words."""

LISTED_MATCHING_SMALL = 300
"""The same in a small project, where the index of words shows no other project."""

_MOST_LISTED = 20_000
"""Chunks of these that have a word of the query."""

_MAX_PAIRED = 4
_NEWEST_MATCHES = 160
_SCALE = 100_000.0
_COMMON_WEIGHT = math.log(1 + _SCALE / (4 * RARE_MATCHES))


Only = Literal["all", "matching", "listed"]
"""Chunks of a project that are looked at: all; those that match a filter, asked one by one; some, by their ids."""

_VALUES: dict[Only, int] = {"all": 0, "matching": 5, "listed": 1}
"""Parameters of each."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What decides how a project is read; either way gives the same."""

    small: bool
    """Whether the project is (`is_small`)."""
    matching: int | None
    """Memories that match the filters, where they are few (`nearest.few_matching`)."""


@dataclass(frozen=True, slots=True)
class _Question:
    conn: Conn
    project_id: int
    limit: int
    narrow: bool
    only: Only
    values: list[object]
    """Parameters of `only`."""
    key: str
    """The column of what is found: a memory by its best chunk, or each chunk."""

    @property
    def lexeme(self) -> str | None:
        """As a tsquery; None where the project is so big that narrowing costs more than it saves."""
        return f"'{project_lexeme(self.project_id)}'" if self.narrow else None

    def narrowed(self, query: str) -> str:
        """A tsquery that is asked of this project."""
        return f"{self.lexeme} & ({query})" if self.narrow else query


@dataclass(frozen=True, slots=True)
class _Rare:
    hits: list[Hit]
    common: list[str]
    """The words that were too common, as tsqueries."""
    total: float
    """Weight of all words."""


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


class WordQuery(NamedTuple):
    """What is looked for by words: at most `limit` memories of a project."""

    project_id: int
    terms: SearchTerms
    limit: int
    filters: Filters


async def fulltext(conn: Conn, query: WordQuery, sizes: Sizes) -> list[Hit]:
    """The memories of a project that have the words of a query, best first.

    `conn` comes from `nearest.bounded`. Raises TookTooLong.

    Scores: above 0.5 when all words are there, by how near they are to each other; otherwise half of the share
    that a memory has of the words that the project knows, rare ones weighing more.
    """
    values = filter_values(query.filters)
    only: Only = "matching" if values else "all"
    key = "id" if query.filters.each_chunk else "entry_id"
    question = _Question(conn, query.project_id, query.limit, sizes.small, only, values, key)
    every, words = await _analysed(question, query.terms)
    if not words:
        return []
    most = LISTED_MATCHING_SMALL if sizes.small else LISTED_MATCHING
    if values and sizes.matching is not None and sizes.matching <= most:
        any_word = " | ".join([every, *words] if every else words)
        found = await conn.fetchval(_WITH_A_WORD, query.project_id, any_word, _MOST_LISTED, *values)
        if not found:
            return []
        question = replace(question, only="listed", values=[found])
    hits, rare = await _all_and_rare_words(question, every, words)
    if len(hits) < query.limit:
        hits = _without_repeats([*hits, *await _some_words(question, rare)])
    return hits[: query.limit]


async def _some_words(question: _Question, rare: _Rare) -> list[Hit]:
    hits = rare.hits
    pairs = [f"{one} & {other}" for one, other in itertools.combinations(rare.common[:_MAX_PAIRED], 2)]
    for queries in ([" | ".join(pairs)] if pairs else [], rare.common):
        if len(hits) < question.limit and queries:
            hits = _without_repeats([*hits, *await _newest(question, queries, rare)])
    return sorted(hits, key=lambda hit: (-hit.score, -hit.key))


def _without_repeats(hits: Sequence[Hit]) -> list[Hit]:
    first: dict[int, Hit] = {}
    for hit in hits:
        first.setdefault(hit.key, hit)
    return list(first.values())


# The matches have all been found by their filter; those with no word of the query are of no interest to any question.
_WITH_A_WORD = f"""
select array(select c.id from memory_chunks c where c.id = any(array({MATCHING_CHUNKS}))
  and c.tsv @@ $2::text::tsquery order by c.id desc limit $3)
"""


def _restriction(only: Only, first: int) -> str:
    """A condition on chunks `c`; its parameters are those from number `first` on.

    A filter is looked up for each chunk that has come so far: with a join, the planner would begin elsewhere.
    """
    if only == "listed":
        return f"and c.id = any(${first}::bigint[])"
    if only == "matching":
        return f"and (select true from memory_entries e where e.id = entry_id and {filter_condition(first)})"
    return ""


# The ordering of the inner query lets the planner choose: rare words by their index, common ones by reading the newest
# chunks until there are enough.
_ALL_WORDS = f"""
select * from (select distinct on ({{key}}) {{key}} as key, id,
    0.5 + 0.5 * ts_rank_cd(tsv, ${{every}}::text::tsquery, 32) as score from (
  select c.id, c.entry_id, c.tsv from memory_chunks c
  where c.live and c.project_id = $1 and (${{lexeme}}::text is null or c.tsv @@ ${{lexeme}}::text::tsquery)
  and c.tsv @@ ${{every}}::text::tsquery {{restriction}}
  order by c.id desc limit {ENOUGH_MATCHES}) matching
order by {{key}}, score desc, id) best order by score desc, key desc limit $3
"""


# All that is asked in a project of English alone, which is most of them.
_ENGLISH = """
select p.languages = array['english'] and p.language in ('auto', 'english') as alone,
  array[websearch_to_tsquery('english', $2)::text, plainto_tsquery('english', $3)::text] as every,
  array(select '''' || replace(replace(lexeme, '\\', '\\\\'), '''', '''''') || ''''
    from unnest(to_tsvector('english', $4)) order by length(lexeme) desc, lexeme limit $5) as words
  from memory_projects p where p.id = $1
"""

# The parser is the same for every configuration, so that a word has one position in all of them: what the
# configurations make of it stands there. Small words of the question's own language say nothing in any of them.
_ANALYSED = """
with l as (select distinct name from memory_projects p, unnest(case
    when p.language <> 'auto' and p.words_after is null then array[p.language]
    else p.languages || $6::text end) name where p.id = $1 and name is not null),
vectors as materialized (select to_tsvector(name::regconfig, words) as v from l, unnest($4::text[]) words),
places as (select max(length(x.lexeme)) as longest,
    string_agg(distinct '''' || replace(replace(x.lexeme, '\\', '\\\\'), '''', '''''') || '''', ' | ') as query
  from vectors, unnest(v) x, unnest(x.positions) place
  where $6::text is null or place in (select o from unnest(to_tsvector($6::text::regconfig, ($4::text[])[1])) q,
    unnest(q.positions) o) group by place)
select array(select websearch_to_tsquery(name::regconfig, one)::text from l, unnest($2::text[]) one
    union select plainto_tsquery(name::regconfig, one)::text from l, unnest($3::text[]) one) as every,
  array(select query from places group by query order by max(longest) desc, query limit $5) as words,
  (select count(*) from l) as languages
"""


async def _analysed(question: _Question, query: SearchTerms) -> tuple[str, list[str]]:
    """A query as the index has it: what asks for all its words, and each word by itself, as tsqueries."""
    folded, most = query.folded, MAX_WORDS + query.pairs
    values = (question.project_id, query.written, query.parts, query.words, most)
    row = await fetch_one(question.conn, _ENGLISH, *values)
    english = query.language in (None, "english") and query.written == folded.written
    if row["alone"] and english and not query.singles and not query.pairs:
        return " | ".join(f"({one})" for one in row["every"] if one), row["words"]
    row = await fetch_one(
        question.conn,
        _ANALYSED,
        question.project_id,
        list(dict.fromkeys((query.written, folded.written))),
        list(dict.fromkeys((query.parts, folded.parts))),
        list(dict.fromkeys((query.words, folded.words))),
        most,
        query.language,
    )
    known = [f"({word})" if " | " in word else word for word in row["words"]]
    words = [*known, *(f"'{single}':*" for single in query.singles)]
    every = [one for one in row["every"] if one]
    several = row["languages"] > 1 or query.singles or query.pairs
    if words and several and len(known) < most:
        every.append(" & ".join(words))
    return " | ".join(f"({one})" for one in every), words


# Unordered on purpose: which matches of a common word these are does not matter, they are not used.
_MATCHES_OF_WORD = f"""
(select {{word}} as word, c.id, c.entry_id from memory_chunks c
where c.live and c.project_id = $1 and c.tsv @@ ${{parameter}}::text::tsquery {{restriction}} {{unless_enough}}
limit {RARE_MATCHES + 1})
"""

# The fewer matches a word has, the more it says: in the project, or among what is listed.
_RARE_WORDS = f"""
with {{all_words}} matching as materialized ({{matches}}),
words as materialized (select word, ($2::text[])[word + 1]::tsquery as query,
  count(*) > {RARE_MATCHES} as common, case when count(*) > {RARE_MATCHES} then {_COMMON_WEIGHT}
  else ln(1 + {_SCALE} / count(*))::float8 end as weight from matching group by word),
found as (select m.id, m.entry_id, sum(w.weight) as weight from matching m join words w using (word)
  where not w.common {{restriction}} group by m.id, m.entry_id),
best as (select * from (select distinct on ({{key}}) id, entry_id, weight from found
  order by {{key}}, weight desc, id desc) f order by weight desc, id desc limit 2 * $3)
select c.{{key}} as key, c.id, (select sum(w.weight) from words w where c.tsv @@ w.query) as score, null as word,
  false as every from best join memory_chunks c using (id)
union all select null, null, weight, case when common then word end, false from words {{all_found}}
"""


def words_statement(words: int, only: Only, key: str = "entry_id", *, every: bool = True) -> str:
    """The memories with rare ones of so many words, and the weight of each word; `key` is what is found.

    With `every` those with all words of the query first, and the others only where these are too few.
    """
    listed, matching = (_restriction(only, 4 + words) if only == kind else "" for kind in ("listed", "matching"))
    last = 3 + words + _VALUES[only]
    all_words = _ALL_WORDS.format(restriction=listed or matching, key=key, every=last + 1, lexeme=last + 2)
    unless_enough = "and (select count(*) from all_words) < $3" if every else ""
    matches = " union all ".join(
        _MATCHES_OF_WORD.format(word=number, parameter=number + 4, restriction=listed, unless_enough=unless_enough)
        for number in range(words)
    )
    return _RARE_WORDS.format(
        matches=matches,
        restriction=matching,
        key=key,
        all_words=f"all_words as materialized ({all_words})," if every else "",
        all_found="union all select key, id, score, null, true from all_words" if every else "",
    )


async def _all_and_rare_words(question: _Question, every: str, words: Sequence[str]) -> tuple[list[Hit], _Rare]:
    """The memories with all words, best first; and those with rare ones, where the others are too few."""
    rows = await question.conn.fetch(
        words_statement(len(words), question.only, question.key, every=bool(every)),
        question.project_id,
        list(words),
        question.limit,
        *(question.narrowed(word) for word in words),
        *question.values,
        *([every, question.lexeme] if every else []),
    )
    first = [Hit(row["key"], row["id"], row["score"], "all") for row in rows if row["every"]]
    others = [row for row in rows if not row["every"]]
    total = sum(row["score"] for row in others if row["id"] is None)
    hits = [Hit(row["key"], row["id"], 0.5 * row["score"] / total, "any") for row in others if row["id"]]
    common = [words[row["word"]] for row in others if row["word"] is not None]
    return sorted(first, key=lambda hit: (-hit.score, -hit.key)), _Rare(hits, common, total)


_NEWEST_OF_QUERY = """
(select c.id, c.entry_id, c.tsv from memory_chunks c
where c.live and c.project_id = $1 and c.tsv @@ ${parameter}::text::tsquery {restriction}
order by c.id desc limit {share})
"""

_NEWEST = """
select distinct on (c.{key}) c.{key} as key, c.id,
(select count(*) from unnest($2::text[]) w where c.tsv @@ w::tsquery) as words
from ({matches}) c order by c.{key}, words desc, c.id
"""


def newest_statement(queries: int, only: Only, key: str = "entry_id") -> str:
    """The newest memories that match one of so many queries."""
    restriction, share = _restriction(only, 3 + queries), _NEWEST_MATCHES // queries
    matches = " union all ".join(
        _NEWEST_OF_QUERY.format(parameter=number + 3, restriction=restriction, share=share) for number in range(queries)
    )
    return _NEWEST.format(matches=matches, key=key)


async def _newest(question: _Question, queries: Sequence[str], rare: _Rare) -> list[Hit]:
    """The newest matches of each of several questions, by how many of the common words they have."""
    rows = await question.conn.fetch(
        newest_statement(len(queries), question.only, question.key),
        question.project_id,
        rare.common,
        *(question.narrowed(query) for query in queries),
        *question.values,
    )
    weight = 0.5 * _COMMON_WEIGHT / rare.total
    return [Hit(row["key"], row["id"], weight * row["words"], "any") for row in rows]
