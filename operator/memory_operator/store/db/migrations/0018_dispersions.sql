-- requires-code: 0.1.0
-- How similar the vectors of a project are to each other in a space: what a query's best vectors are compared with.
-- Measured by workers; release 0.1 neither reads nor writes it.

create table memory_space_dispersions (
  space_id bigint not null references memory_embedding_spaces on delete cascade,
  project_id int not null,
  -- How many there were, at least, when it was measured.
  vectors int not null,
  mean float8 not null,
  deviation float8 not null,
  measured_at timestamptz not null default now(),
  primary key (space_id, project_id));
