-- requires-code: 0.1.0
-- For how long a space that an edit replaced keeps getting new memories, so that `activate` leads back at once.
-- Release 0.1 neither reads nor writes it: what it stores meanwhile, such a space lacks.

-- What the Provider says, in seconds; null is the default.
alter table memory_providers add column keep_seconds double precision;

alter table memory_embedding_spaces
  -- Null: a space that is not kept, or no longer.
  add column kept_until timestamptz,
  -- Why that ended before its time.
  add column keep_ended text,
  -- What it took so far.
  add column kept_tokens bigint not null default 0,
  add column kept_cost numeric;

-- Not validated: the rows that are there satisfied the narrower rule, and the table may be long.
alter table memory_usage_ledger drop constraint memory_usage_ledger_purpose_check;
alter table memory_usage_ledger add constraint memory_usage_ledger_purpose_check
  check (purpose in ('fill', 'add', 'query', 'probe', 'rerank', 'maintenance')) not valid;
