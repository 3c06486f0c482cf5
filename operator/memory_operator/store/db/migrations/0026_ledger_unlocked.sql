-- requires-code: 0.1.0
-- A call no longer locks the rows of its tenant and its space. The ledger's foreign keys made each one do it, and those of
-- several at a time are multixacts, whose members are rewritten with every call. No release deletes a tenant; the ledger
-- outlives a space by its embedding version, and may keep the number of one that is gone.

alter table memory_usage_ledger drop constraint memory_usage_ledger_tenant_id_fkey;
alter table memory_usage_ledger drop constraint memory_usage_ledger_space_id_fkey;
