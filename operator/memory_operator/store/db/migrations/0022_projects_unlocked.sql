-- requires-code: 0.1.0
-- An add no longer locks the row of its project. The foreign key made each one do it, and those of several at a time are
-- multixacts, whose members are rewritten with every add. No release deletes a project, so there is nothing to guard.

alter table memory_entries drop constraint memory_entries_project_id_fkey;
