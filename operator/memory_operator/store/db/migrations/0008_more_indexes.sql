-- requires-code: 0.1.0
-- transaction: none
-- Indexes that the plans of all statements showed to be missing.

-- Without a condition: no statement but one says that ended ranges do not matter, and there are none.
create index concurrently if not exists memory_reembed_leases_job on memory_reembed_leases (job_id, after_id);
drop index concurrently if exists memory_reembed_leases_open;

create index concurrently if not exists memory_usage_daily_day on memory_usage_daily (day);
create index concurrently if not exists memory_consent_unused on memory_embedding_dim_change_consent (target_dim)
  where consumed_at is null and withdrawn_at is null;

-- From the memories that a filter found to their vectors, without reading a text.
create index concurrently if not exists memory_chunks_entry_live on memory_chunks (entry_id) include (id) where live;
-- What it costs to ask it of a row, instead of looking it up.
alter function memory_scoped_tags(int, text[]) cost 2000;
