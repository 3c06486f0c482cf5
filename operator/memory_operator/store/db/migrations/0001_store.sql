-- requires-code: 0.1.0
-- The store as it starts: memories, spaces, the gate, the re-embed queue.

-- One row: which master key this store was made with.
create table memory_store (
  singleton boolean primary key default true check (singleton),
  key_fingerprint text not null,
  key_check bytea not null,
  created_at timestamptz not null default now()
);

create table memory_tenants (
  id int generated always as identity primary key,
  name text not null unique,
  wrapped_key bytea not null,
  created_at timestamptz not null default now()
);

create table memory_projects (
  id int generated always as identity primary key,
  tenant_id int not null references memory_tenants,
  slug text not null,
  created_at timestamptz not null default now(),
  unique (tenant_id, slug)
);

-- One row per version of a memory. A tombstone is a version too: it has no text and no chunks.
create table memory_entries (
  id bigint generated always as identity primary key,
  canonical_id uuid not null,
  version_no int not null check (version_no >= 1),
  project_id int not null references memory_projects,
  current boolean not null default true,
  tombstone boolean not null default false,
  input bytea,
  summary bytea,
  metadata bytea,
  type text,
  tags text[] not null default '{}',
  source text,
  importance real,
  confidence real,
  embedding_version text,
  tokens bigint,
  cost numeric,
  created_by text not null,
  created_at timestamptz not null default now(),
  unique (canonical_id, version_no)
);
create unique index memory_entries_current on memory_entries (canonical_id) where current;
create index memory_entries_project on memory_entries (project_id, id) where current and not tombstone;

-- A chunk never changes, so a vector can never go stale; `live` says whether its version is the current one.
create table memory_chunks (
  id bigint generated always as identity primary key,
  entry_id bigint not null references memory_entries on delete cascade,
  project_id int not null,
  ordinal int not null,
  text bytea not null,
  content_hash bytea not null,
  tsv tsvector not null,
  chunker_version smallint not null,
  preprocessing_version smallint not null,
  live boolean not null default true,
  unique (entry_id, ordinal)
);
create index memory_chunks_tsv on memory_chunks using gin (tsv) with (fastupdate = off) where live;
create index memory_chunks_project on memory_chunks (project_id, id) where live;

create table memory_embedding_spaces (
  id bigint generated always as identity primary key,
  identity text not null unique,
  space_key text not null,
  embedding_version text not null unique,
  provider_namespace text not null,
  provider_name text not null,
  provider_uid text not null,
  provider_generation bigint not null,
  config jsonb not null,
  column_type text not null check (column_type in ('vector', 'halfvec')),
  dimensions int not null check (dimensions between 1 and 4000),
  distance text not null check (distance in ('cosine', 'l2', 'dot')),
  state text not null check (state in ('filling', 'ready', 'retired', 'orphaned')),
  create_enabled boolean not null default true,
  -- Why its embedder gave no vectors when a fill asked last; null when it did.
  trouble text,
  trouble_code text,
  created_at timestamptz not null default now(),
  filled_at timestamptz,
  state_changed_at timestamptz not null default now()
);

-- One row says which space queries read. Every writer of memories holds it FOR SHARE; a fill's barrier,
-- a switch and a reshape hold it FOR UPDATE.
create table memory_registry (
  singleton boolean primary key default true check (singleton),
  active_space_id bigint references memory_embedding_spaces on delete set null,
  inactive_reason text not null default 'no_provider'
    check (inactive_reason in ('no_provider', 'provider_deleted', 'disabled')),
  ever_active boolean not null default false,
  -- The space that was active when its Provider went away: it is active again when that Provider comes back.
  restore_space_id bigint references memory_embedding_spaces on delete set null,
  changed_at timestamptz not null default now(),
  changed_by text not null default 'migration'
);
insert into memory_registry default values;

-- Sums of slots: scope 0 counts live chunks, any other scope the vectors of that space. Slots keep writers apart.
create table memory_embedding_counters (
  scope bigint not null,
  slot smallint not null,
  n bigint not null,
  primary key (scope, slot)
) with (fillfactor = 50);

-- What each Provider says now, which space it has, and which one is being filled beside it.
create table memory_providers (
  namespace text not null,
  name text not null,
  uid text not null,
  generation bigint not null,
  created_at timestamptz not null,
  absent_since timestamptz,
  applied_space_id bigint references memory_embedding_spaces on delete set null,
  beside_space_id bigint references memory_embedding_spaces on delete set null,
  activation text not null default 'Automatic' check (activation in ('Automatic', 'Manual')),
  column_type text not null default 'vector',
  reshape_to int,
  status jsonb,
  observed_at timestamptz not null default now(),
  primary key (namespace, name)
);

create table memory_pending_changes (
  namespace text not null,
  name text not null,
  uid text not null,
  generation bigint not null,
  from_dim int not null,
  to_dim int not null,
  vectors bigint not null,
  chunks bigint not null,
  estimated_tokens bigint not null,
  estimated_cost numeric,
  currency text not null default 'USD',
  marker text not null,
  message text not null,
  since timestamptz not null default now(),
  primary key (namespace, name),
  foreign key (namespace, name) references memory_providers on delete cascade
);

create table memory_embedding_dim_change_consent (
  id bigint generated always as identity primary key,
  target_dim int not null check (target_dim between 1 and 4000),
  provider text,
  created_at timestamptz not null default now(),
  created_by text not null default session_user,
  expires_at timestamptz not null default now() + interval '24 hours',
  consumed_at timestamptz,
  consumed_by text,
  withdrawn_at timestamptz
);

create function memory_consent_recorded() returns trigger language plpgsql as $$
begin
  perform pg_notify('memory_consent', '');
  return null;
end $$;
create trigger memory_consent_recorded after insert or update on memory_embedding_dim_change_consent
  for each statement execute function memory_consent_recorded();

create table memory_reembed_jobs (
  id bigint generated always as identity primary key,
  space_id bigint not null references memory_embedding_spaces on delete cascade,
  state text not null default 'running' check (state in ('running', 'paused', 'done', 'cancelled')),
  bound bigint not null,
  total bigint not null,
  done bigint not null default 0,
  tokens bigint,
  failures int not null default 0,
  retry_at timestamptz,
  created_at timestamptz not null default now(),
  first_call_at timestamptz,
  finished_at timestamptz
);
create unique index memory_reembed_jobs_open on memory_reembed_jobs (space_id) where state in ('running', 'paused');

-- A range of chunk ids, (after, upto], that one worker at a time walks; `token` fences out a worker that was replaced.
create table memory_reembed_leases (
  id bigint generated always as identity primary key,
  job_id bigint not null references memory_reembed_jobs on delete cascade,
  after_id bigint not null,
  upto_id bigint not null,
  state text not null default 'open' check (state in ('open', 'leased', 'done')),
  token uuid,
  worker text,
  presence int,
  expires_at timestamptz
);
create index memory_reembed_leases_open on memory_reembed_leases (job_id, after_id) where state <> 'done';

-- Chunks stored while their space's embedder gave no vector; filled as soon as it answers again.
create table memory_embedding_pending (
  space_id bigint not null references memory_embedding_spaces on delete cascade,
  chunk_id bigint not null references memory_chunks on delete cascade,
  since timestamptz not null default now(),
  primary key (space_id, chunk_id)
);
create index memory_embedding_pending_chunk on memory_embedding_pending (chunk_id);

create table memory_embedding_quarantine (
  space_id bigint not null references memory_embedding_spaces on delete cascade,
  chunk_id bigint not null references memory_chunks on delete cascade,
  reason text not null,
  attempts int not null default 1,
  since timestamptz not null default now(),
  primary key (space_id, chunk_id)
);
create index memory_embedding_quarantine_chunk on memory_embedding_quarantine (chunk_id);

create table memory_activity (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  actor text not null,
  origin text not null,
  kind text not null,
  subject text not null,
  detail jsonb not null default '{}'
);

-- The active space, for people who read with SQL.
create view memory_embeddings as
  select null::bigint as chunk_id, null::int as project_id, null::vector as embedding where false;
