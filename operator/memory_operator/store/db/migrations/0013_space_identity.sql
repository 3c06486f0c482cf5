-- requires-code: 0.1.0
-- What makes a space, without what concerns queries only. Computed by code at the first start of an operator of 0.2;
-- `identity` stays as release 0.1 wrote it, and goes once that release may no longer run.

alter table memory_embedding_spaces add column space_identity text unique;
