-- requires-code: 0.1.0
-- How each Provider's rerank API is called, and calls to it in the ledger. Release 0.1 neither reads nor writes either.

-- Null where a Provider has none. It is no part of a space: edits of it hold nothing and embed nothing.
alter table memory_providers add column rerank jsonb;

-- Not validated: the rows that are there satisfied the narrower rule, and the table may be long.
alter table memory_usage_ledger drop constraint memory_usage_ledger_purpose_check;
alter table memory_usage_ledger add constraint memory_usage_ledger_purpose_check
  check (purpose in ('fill', 'add', 'query', 'probe', 'rerank')) not valid;
