"""The language of a project's words, and chunks whose words are indexed anew after it changed.

A chunk's `tsv` is rewritten in place: it keeps its id, its text and its vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from memory_operator.store.db.pool import Conn, fetch_one
from memory_operator.store.memories import fulltext


@dataclass(frozen=True, slots=True)
class ProjectWords:
    """How the words of a project's chunks are indexed."""

    project: str
    language: str
    """`auto`, or a configuration for all of them."""
    languages: Sequence[str]
    """Configurations that chunks of it are indexed with."""
    rewriting: bool
    """Whether chunks are still looked at again."""


@dataclass(frozen=True, slots=True)
class OpenProject:
    """A project whose chunks are looked at again; locked."""

    id: int
    language: str
    words_after: int


@dataclass(frozen=True, slots=True)
class IndexedChunk:
    """A chunk with all that its words are made of, sealed."""

    id: int
    ordinal: int
    text: bytes
    language: str | None
    """None: english, of the text as it is."""
    canonical_id: UUID
    version_no: int
    tags: Sequence[str]
    summary: bytes | None


_PROJECTS = """
select p.slug as project, p.language, p.languages, p.words_after is not null as rewriting
from memory_projects p join memory_tenants t on t.id = p.tenant_id where t.name = $1
and (p.language <> 'auto' or exists (select from memory_entries e
  where e.project_id = p.id and e.current and not e.tombstone)) order by p.slug
"""


async def projects(conn: Conn, tenant: str) -> list[ProjectWords]:
    """The projects of a tenant that have memories or a language of their own, by name."""
    return [ProjectWords(**dict(row)) for row in await conn.fetch(_PROJECTS, tenant)]


_SET = """
update memory_projects set language = $2, words_after = 0 where id = $1
returning slug as project, language, languages, words_after is not null as rewriting
"""


async def set_language(conn: Conn, project_id: int, language: str) -> ProjectWords:
    """Set a project's language, and have all its chunks looked at again.

    The registry is locked exclusively: every chunk that was written before is there to be looked at.
    """
    return ProjectWords(**dict(await fetch_one(conn, _SET, project_id, language)))


_NOTE = """
update memory_projects p set languages = array(select distinct unnest(p.languages || used.names) order by 1)
from (select id, case language when 'auto' then $2::text[] else array[language] end as names from memory_projects
  where id = $1) used
where p.id = used.id and not p.languages @> used.names
"""


async def note(conn: Conn, project_id: int, languages: Sequence[str]) -> None:
    """Let queries of a project know that chunks are indexed with these configurations, or with the project's own.

    Before any chunk of the project is locked, as the project itself is locked before its chunks.
    """
    await conn.execute(_NOTE, project_id, list(languages))


_WAITING = """
select t.name from memory_projects p join memory_tenants t on t.id = p.tenant_id
where p.words_after is not null group by t.id order by t.id limit 20
"""


async def waiting(conn: Conn) -> list[str]:
    """Tenants with projects whose chunks are to be looked at again; some of them, where there are many."""
    return [row["name"] for row in await conn.fetch(_WAITING)]


_CLAIM = """
select p.id, p.language, p.words_after from memory_projects p join memory_tenants t on t.id = p.tenant_id
where t.name = $1 and p.words_after is not null order by p.id limit 1 for no key update of p skip locked
"""


async def claim(conn: Conn, tenant: str) -> OpenProject | None:
    """A tenant's project with chunks to look at that no other worker looks at; locked until the transaction ends."""
    row = await conn.fetchrow(_CLAIM, tenant)
    return OpenProject(**dict(row)) if row else None


_READ = """
select c.id, c.ordinal, c.text, c.language, e.canonical_id, e.version_no, e.tags, e.summary
from memory_chunks c join memory_entries e on e.id = c.entry_id
where c.project_id = $1 and c.live and c.id > $2 order by c.id limit $3
"""


async def read(conn: Conn, project: OpenProject, limit: int) -> list[IndexedChunk]:
    """The next chunks to look at, by id. What they are found by never changes, so that none of them is locked."""
    return [IndexedChunk(**dict(row)) for row in await conn.fetch(_READ, project.id, project.words_after, limit)]


_REWRITE = """
with there as materialized (select id from memory_chunks where id = any($1) and live order by id for no key update)
update memory_chunks c set language = n.language,
  tsv = to_tsvector(n.language::regconfig, n.indexed) || array_to_tsvector(array[$4]::text[])
from unnest($1::bigint[], $2::text[], $3::text[]) as n (id, language, indexed) join there using (id) where c.id = n.id
"""


async def rewrite(conn: Conn, project_id: int, chunks: Sequence[tuple[int, str, str]]) -> None:
    """Index chunks anew: id, configuration, and what each is found by."""
    ids, names, indexed = zip(*chunks, strict=True)
    await note(conn, project_id, sorted(set(names)))
    await conn.execute(_REWRITE, list(ids), list(names), list(indexed), fulltext.project_lexeme(project_id))


_ADVANCE = """update memory_projects set words_after = $2 where id = $1"""


async def advance(conn: Conn, project_id: int, words_after: int | None) -> None:
    """Note how far a project was looked at; None: to its end."""
    await conn.execute(_ADVANCE, project_id, words_after)
