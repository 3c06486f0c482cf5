-- requires-code: 0.1.0
-- transaction: none
-- Indexes that filters of queries and the times of usage need. Built beside the traffic, one by one; a build that was
-- ended in the middle is begun again.

-- A project's tags as one value, so that one index finds a tag in one project.
create or replace function memory_scoped_tags(project int, tags text[]) returns text[] language sql immutable
  parallel safe as $$ select array_agg(project::text || ' ' || tag) from unnest(tags) as tag $$;

create index concurrently if not exists memory_entries_tags on memory_entries
  using gin (memory_scoped_tags(project_id, tags)) with (fastupdate = off) where current and not tombstone;
create index concurrently if not exists memory_entries_type on memory_entries (project_id, type, id)
  where current and not tombstone;
create index concurrently if not exists memory_entries_source on memory_entries (project_id, source, id)
  where current and not tombstone;
create index concurrently if not exists memory_entries_created on memory_entries (project_id, created_at, id)
  where current and not tombstone;

-- With the memory, so that a filter joins them from the indexes alone; it stands in for the one without.
create index concurrently if not exists memory_chunks_project_entry on memory_chunks (project_id, id)
  include (entry_id) where live;
drop index concurrently if exists memory_chunks_project;

create index concurrently if not exists memory_usage_ledger_at on memory_usage_ledger (at);
create index concurrently if not exists memory_reembed_jobs_space on memory_reembed_jobs (space_id, id);
create index concurrently if not exists memory_consent_newest on memory_embedding_dim_change_consent
  (created_at, id);
