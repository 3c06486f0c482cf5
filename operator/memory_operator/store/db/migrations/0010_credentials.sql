-- requires-code: 0.1.0
-- An old vendor never gets a new vendor's key, also when both are in a Secret of one name.

-- HMAC, under the master key, of the credential that last worked with this space's vendor.
alter table memory_embedding_spaces add column credential_proof bytea;

-- Whether the Provider names another vendor by now: then only the credential that worked is used.
alter table memory_embedding_spaces add column credential_moved boolean not null default false;
