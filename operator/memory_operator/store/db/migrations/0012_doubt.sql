-- requires-code: 0.1.0
-- Why a held change could not be applied whatever consent it gets, as far as that is known before a call: null, or words.
alter table memory_pending_changes add column doubt text;
