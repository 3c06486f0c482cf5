-- requires-code: 0.1.0
-- Refused chunks are tried again by themselves; a fill that is about to be completed says so to those who write.

-- When a refused chunk is tried next; infinity: never, nothing would be sent.
alter table memory_embedding_quarantine add column retry_at timestamptz not null default now() + interval '1 minute';
create index memory_embedding_quarantine_retry on memory_embedding_quarantine (space_id, retry_at);

-- Since when only chunks that were just written are in the way of a job's end.
alter table memory_reembed_jobs add column closing_at timestamptz;
