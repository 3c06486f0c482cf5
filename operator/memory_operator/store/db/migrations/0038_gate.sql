-- requires-code: 0.1.0
-- Whether the space of an edit answers well enough for queries to switch to it (activation Measured). Release 0.1 knows no
-- such activation, and takes it for Manual: it neither reads nor writes this.

alter table memory_providers drop constraint memory_providers_activation_check;
alter table memory_providers add constraint memory_providers_activation_check
  check (activation in ('Automatic', 'Manual', 'Measured'));

-- How good it has to be; null where nobody measures it.
alter table memory_providers add column gate jsonb;

create table memory_gate_results (
  space_id bigint primary key references memory_embedding_spaces on delete cascade,
  -- The space that it was compared with, and what was asked of it: another one of these is measured anew.
  against_id bigint not null,
  gate jsonb not null,
  -- False where it could not be compared, as message says: it is tried again.
  measured boolean not null,
  passed boolean not null,
  -- The figures and the reasons, for people.
  message text not null,
  decided_at timestamptz not null default now());
