"""The plan of every statement of the store on a stocked database: none scans a table that grows.

Statements are the constants of the modules below `store`, so that a new one cannot be forgotten. A generic plan is
asked for: one that is good for any values is good for those that come.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest

import memory_operator.store
from fixtures.engine import open_world
from fixtures.memories import config
from fixtures.postgres import Server
from memory_operator.contract.resource import ProviderRef
from memory_operator.store.memories import nearest, new_versions
from memory_operator.store.spaces import registry, spaces
from memory_operator.store.spaces.spaces import Owner

ROWS = 60_000
DIMENSIONS = 128
SPACES = 40
GROWING = re.compile(
    r"memory_(vectors_\d+|entries|chunks|usage_ledger|usage_daily|activity|embedding_pending|embedding_quarantine)$"
)
"""Tables that grow with what is stored and called. The others have a row for a Provider, a space, a job, a tenant, a
consent that somebody gave, or a range of a job that is open: one for a thousand chunks, until it is walked."""

PLANNED = re.compile(r"\s*(select|insert|update|delete|with)\b", re.IGNORECASE)

ACCEPTED = {
    "jobs.control._COUNT_QUARANTINED": "a dry run of one project, asked for by a person",
    "jobs.control._REQUEUE_QUARANTINED": "the run of it",
    "jobs.quarantine._COUNTED": "counts by space: the chunks that vendors refuse are few, or nothing works",
    "jobs.control._PROJECT_LACKS_SOME": "whether a job of one project has anything to do, when somebody asks for one",
    "jobs.estimate._COUNT": "a dry run counts the whole store, asked for by a person, outside of any lock",
    "jobs.missing._COUNT_LACKING": "a job of a part counts what it will walk, outside of any lock",
    "jobs.missing._COUNT_LIVE": "the same",
    "memories.counts._LIVE": "a dry run of the whole store, asked for by a person",
    "jobs.jobs._QUEUE_LATE_CHUNKS": "once at the end of a fill: what came late is found by no other way",
    "jobs.rechunk._SCOPE": "a reindex counts what it will walk, asked for by a person",
    "jobs.rechunk._WAITING": "a reindex stops while 2,000 are pending, so that it reads hardly more",
    "jobs.fresh._FORGET_DEAD": "once at the end of a rebuild, which has read it all before",
    "memories.browse._SOURCES": "the sample looks once, at its start, for what it has loaded already",
    "memories.comparing._COUNT": "what two spaces have in common, when somebody compares them",
    "memories.comparing._DRAW": "questions made of stored memories, when somebody compares spaces by them",
    "memories.comparing._NEAREST": "reads all that a project has in two spaces, when somebody compares them",
    "memories.nearest._BY_INDEX": "only a generic plan, which does not know how few are asked for, and is never used",
    "memories.nearest._ONE_BY_ONE": "the same",
    "jobs.health._WAITING": "the doctor, asked for by a person, looks for the oldest of what waits, for at most 5 s",
    "spaces.dispersions._SAMPLE": "so many of one project's at most: a generic plan does not know how few those are",
    "spaces.hnsw._NEAREST_BY_INDEX": "the same; and the stock has no index",
    "spaces.hnsw._NEAREST_OF_ALL": "what an index finds is compared with, once it is built",
    "spaces.rehearsals._MEASURE": "what a rehearsal would embed, when somebody begins one",
    "spaces.rehearsals._SAMPLED": "the sample of it",
    "spaces.rehearsals._TAKE_SAMPLE": "the same",
}
"""Statements that read a growing table whole, and why they may."""

STOCK = """
insert into memory_tenants (name, wrapped_key) select 'tenant ' || n, ''::bytea from generate_series(1, 20) n;
insert into memory_projects (tenant_id, slug) select id, 'project' from memory_tenants;
insert into memory_entries (canonical_id, version_no, project_id, input, created_by)
  select gen_random_uuid(), 1, 1 + n % 20, '\\x00', 'stock' from generate_series(1, {rows}) n;
insert into memory_chunks (entry_id, project_id, ordinal, text, content_hash, tsv, chunker_version,
  preprocessing_version)
  select id, project_id, 0, '\\x00', decode(md5(id::text), 'hex'), to_tsvector('simple', 'word' || id), 1, 1
  from memory_entries;
insert into memory_vectors_1 (chunk_id, project_id, embedding)
  select id, project_id, (select array_agg(n) from generate_series(1, {dimensions}) n)::vector from memory_chunks;
insert into memory_vectors_2 select * from memory_vectors_1;
create table memory_staging (like memory_vectors_1);
create table memory_vectors_1_job_1 (like memory_vectors_1 including indexes);
insert into memory_embedding_pending (space_id, chunk_id) select 1 + id % {spaces}, id from memory_chunks;
insert into memory_embedding_quarantine (space_id, chunk_id, reason)
  select 1 + id % {spaces}, id, 'refused' from memory_chunks;
insert into memory_usage_daily (namespace, name, day)
  select 'default', 'p' || n % 20, current_date - n / 20 from generate_series(1, {rows}) n;
insert into memory_activity (actor, origin, kind, subject, detail)
  select 'stock', 'test', 'filled', 'x', '{{}}' from generate_series(1, {rows});
insert into memory_embedding_dim_change_consent (target_dim, withdrawn_at)
  select 8, now() from generate_series(1, {rows});
insert into memory_reembed_jobs (space_id, state, bound, total, kind) select 1, 'done', 1, 1, 'fill'
  from generate_series(1, 50);
insert into memory_reembed_leases (job_id, after_id, upto_id) select id, n, n + 1
  from memory_reembed_jobs, generate_series(1, 400) n;
insert into memory_usage_ledger (call_id, at, state, purpose, tenant_id, provider_namespace, provider_name, space_id,
  model, job_id, inputs, estimated_tokens)
  select gen_random_uuid(), now() - n * interval '1 minute', 'answered', 'add', 1 + n % 20, 'default', 'p' || n % 20, 1,
  'm', 1 + n % 50, 1, 1 from generate_series(1, {rows}) n
"""


BUILT = {
    "memories.nearest._ONLY_ACTIVE": nearest._ONLY_ACTIVE.format(
        search=nearest._together([nearest._MATCHING_ONE_BY_ONE]), seen_as="$9"
    ),
    "memories.new_versions._STATEMENT": new_versions.statement([(1, "vector"), (1, "vector")]),
}
"""Statements that are made of others."""


def statements() -> dict[str, str]:
    """Every statement that has a plan, by module and name."""
    found = {}
    for module in pkgutil.walk_packages(memory_operator.store.__path__, "memory_operator.store."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, str) and name.isupper() and PLANNED.match(value):
                found[f"{module.name.removeprefix('memory_operator.store.')}.{name}"] = value
    return {name: statement for name, statement in found.items() if not any(b.startswith(name) for b in BUILT)} | BUILT


STATEMENTS = statements()
NAMES = {
    "vectors": "memory_vectors_1",
    "one": "memory_vectors_1",
    "other": "memory_vectors_2",
    "rehearsal": "1",
    "staging": "memory_staging",
    "fresh": "memory_vectors_1_job_1",
    "clash": "nothing",
    "group": "purpose",
    "operator": "<=>",
    "nearness": "v.embedding <=> $2::vector",
    "vector": "$2::text::vector",
    "within": "v.chunk_id >= 59000 and v.chunk_id < 61000",
    "parts": "select 1::bigint as chunk_id, 0::float8 as distance",
    "at": "0",
    "limit": "1000",
}
"""What stands in a statement for the names that are put into it."""


@pytest.fixture(scope="module")
def stocked(postgres_server: Server, template_database: str) -> Iterator[str]:
    """Name of a database with rows in every table that grows."""
    name = postgres_server.create(template_database)
    asyncio.run(_make_space(postgres_server.url(name, superuser=False)))
    postgres_server.execute(
        *STOCK.format(rows=ROWS, spaces=SPACES, dimensions=DIMENSIONS).strip().split(";\n"),
        "vacuum analyze",
        database=name,
    )
    yield name
    postgres_server.drop(name)


async def _make_space(dsn: str) -> None:
    async with open_world(dsn) as world, world.store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        for number in range(SPACES):
            owner = Owner(ProviderRef("default", f"p{number}"), "uid", 1)
            await spaces.create(conn, owner, config(DIMENSIONS, model=f"m{number}"))


def scanned(plan: Any) -> set[str]:
    """Tables that a plan reads from their first row to their last."""
    found = set()
    if isinstance(plan, list):
        for part in plan:
            found |= scanned(part)
    elif isinstance(plan, dict):
        if plan.get("Node Type") == "Seq Scan":
            found.add(plan["Relation Name"])
        for part in plan.values():
            found |= scanned(part)
    return found


def planned(server: Server, database: str, name: str) -> set[str]:
    """Growing tables that a statement scans."""
    statement = re.sub(r"\{+(\w+)\}+", lambda found: NAMES[found[1]], STATEMENTS[name])
    explained = server.execute(f"explain (generic_plan, format json) {statement}", database=database)
    return {table for table in scanned(json.loads(explained)) if GROWING.match(table)}


def test_there_are_statements() -> None:
    assert len(STATEMENTS) > 100


def test_what_is_accepted_is_still_there() -> None:
    assert set(ACCEPTED) <= set(STATEMENTS)


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_a_statement_scans_no_table_that_grows(stocked: str, postgres_server: Server, name: str) -> None:
    found = planned(postgres_server, stocked, name)
    assert not found or name in ACCEPTED, f"{name} scans {', '.join(sorted(found))}"


FIND_BY_WORDS = """
select from memory_find_by_words(1, '{word1 word7}', '{}', '{word1 word7}', '{}', 0, null, 16, 40, false, false, '{}',
  false, null, null, null, null, null);
select from memory_find_by_words(1, '{word1 word7}', '{}', '{word1 word7}', '{}', 0, null, 16, 40, false, true, '{}',
  true, 'a type', '{tag}', 'source', null, now());
select sum(seq_scan) from pg_stat_xact_user_tables where relname in ('memory_chunks', 'memory_entries')
"""


def test_the_function_that_finds_by_words_scans_no_table_that_grows(stocked: str, postgres_server: Server) -> None:
    assert postgres_server.execute(FIND_BY_WORDS, database=stocked).split()[-1] == "0"
