-- requires-code: 0.1.0
-- How calls to a Provider's rerank API end, where that has changed: written by the API, told by the operator. Release 0.1
-- neither reads nor writes it.

alter table memory_providers
  -- Answered, or the kind of the error; null before the first call, and after an edit of the rerank API.
  add column rerank_outcome text,
  add column rerank_message text;
