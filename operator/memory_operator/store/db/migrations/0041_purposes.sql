-- requires-code: 0.1.0
-- Calls that compare spaces, and those of rehearsals, in the ledger.

-- Not validated: the rows that are there satisfied the narrower rule, and the table may be long.
alter table memory_usage_ledger drop constraint memory_usage_ledger_purpose_check;
alter table memory_usage_ledger add constraint memory_usage_ledger_purpose_check
  check (purpose in ('fill', 'add', 'query', 'probe', 'rerank', 'maintenance', 'compare', 'rehearse')) not valid;
