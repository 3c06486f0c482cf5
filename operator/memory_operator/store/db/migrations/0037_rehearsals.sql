-- requires-code: 0.1.0
-- Comparing two spaces, also with a model that no Provider asks for yet: a rehearsal embeds a sample of the chunks with
-- it, beside all spaces. Nothing here is ever active, filled by workers or embedded on write. Release 0.1 neither reads
-- nor writes any of it.

create table memory_rehearsals (
  id bigint generated always as identity primary key,
  tenant_id int not null references memory_tenants on delete cascade,
  -- Whose vendor, credential and limits are used: where the space goes, so does the rehearsal.
  space_id bigint not null references memory_embedding_spaces on delete cascade,
  -- The configuration of that space with another model.
  config jsonb not null,
  -- Of the vectors; null before the first of them.
  dimensions int,
  created_by text not null,
  created_at timestamptz not null default now(),
  -- Put off by whoever works with it: what a killed command leaves is removed after that.
  expires_at timestamptz not null);

create table memory_rehearsal_chunks (
  rehearsal_id bigint not null references memory_rehearsals on delete cascade,
  chunk_id bigint not null references memory_chunks on delete cascade,
  project_id int not null,
  -- Null until it is embedded.
  embedding vector,
  -- Why the vendor refuses its text.
  refused text,
  primary key (rehearsal_id, chunk_id));
create index memory_rehearsal_chunks_chunk on memory_rehearsal_chunks (chunk_id);
