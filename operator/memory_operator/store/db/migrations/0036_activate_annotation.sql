-- requires-code: 0.1.0
-- What was last seen of a Provider's annotation memory-operator/activate, and what became of it. Release 0.1 neither
-- reads nor writes it.

-- {"uid", "value", "result": "seen" | "begun" | "done" | "refused", "message", "by", "at"}; null: nothing was seen yet.
alter table memory_providers add column activation_request jsonb;
