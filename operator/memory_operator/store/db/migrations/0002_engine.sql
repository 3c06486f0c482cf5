-- requires-code: 0.1.0
-- The re-embed engine: jobs that people steer, fenced writers, the ledger of paid calls, limits shared by all workers.

alter table memory_reembed_jobs
  alter column space_id drop not null, -- a reindex makes chunks, for no space in particular
  add column kind text not null default 'fill' check (kind in ('fill', 'reembed', 'reindex')),
  -- Only the chunks of one project; null: of the whole store.
  add column project_id int references memory_projects on delete cascade,
  -- Chunks that have a vector get a new one too.
  add column replace boolean not null default false,
  add column paused_for text check (paused_for in ('user', 'budget')),
  -- Tokens that the budget had left when it was paused for that.
  add column paused_left bigint,
  -- Why it is paused or failed to go on, for people.
  add column message text,
  add column requested_by text not null default 'memory-operator',
  add column calls bigint not null default 0,
  add column copied bigint not null default 0,
  add column quarantined bigint not null default 0,
  add column cost numeric,
  -- What counts against a budget: as `tokens` and `cost`, but estimated where the vendor does not say.
  add column spent_tokens bigint not null default 0,
  add column spent_cost numeric not null default 0,
  add check (space_id is not null or kind = 'reindex');
create unique index memory_reembed_jobs_reindex on memory_reembed_jobs (kind)
  where kind = 'reindex' and state in ('running', 'paused');

-- The backend that writes for a lease: whoever takes the lease over ends that backend first, since a client that was
-- stopped in the middle of a COPY holds its row locks and heeds no time limit.
alter table memory_reembed_leases
  add column backend_pid int,
  add column backend_start timestamptz;

-- A worker takes pending chunks for a while; they are free again when it is gone, or has taken too long.
alter table memory_embedding_pending
  add column claimed_by int,
  add column claimed_until timestamptz;

-- Finds the other chunks of a tenant with the same text: its vector is copied instead of paid.
create index memory_chunks_hash on memory_chunks (content_hash, id) where live;

-- One row for each tenant in each call to a vendor: written before the call leaves, completed when it is answered.
create table memory_usage_ledger (
  id bigint generated always as identity primary key,
  call_id uuid not null,
  at timestamptz not null default now(),
  ended_at timestamptz,
  -- sent: under way, or its process died; answered: vectors came; unusable: a reply that was refused by us;
  -- refused: the vendor said no; unanswered: no whole reply came.
  state text not null default 'sent' check (state in ('sent', 'answered', 'unusable', 'refused', 'unanswered')),
  purpose text not null check (purpose in ('fill', 'add', 'query', 'probe')),
  tenant_id int references memory_tenants,
  provider_namespace text not null,
  provider_name text not null,
  space_id bigint references memory_embedding_spaces on delete set null,
  embedding_version text,
  model text not null,
  -- Key of the lock by which the worker that calls shows that it is alive.
  presence int,
  job_id bigint references memory_reembed_jobs on delete set null,
  inputs int not null,
  estimated_tokens bigint not null,
  tokens bigint,
  cost numeric
);
create index memory_usage_ledger_call on memory_usage_ledger (call_id);
create index memory_usage_ledger_provider on memory_usage_ledger (provider_namespace, provider_name, at);
create index memory_usage_ledger_tenant on memory_usage_ledger (tenant_id, at);
create index memory_usage_ledger_job on memory_usage_ledger (job_id);
create index memory_usage_ledger_open on memory_usage_ledger (at) where state = 'sent';

-- What fills have spent a day, in UTC: what counts against a budget.
create table memory_usage_daily (
  namespace text not null,
  name text not null,
  day date not null,
  spent_tokens bigint not null default 0,
  spent_cost numeric not null default 0,
  primary key (namespace, name, day)
);

-- What is left of a Provider's limits this minute, for all workers together.
create table memory_rate_limits (
  namespace text not null,
  name text not null,
  requests double precision not null,
  tokens double precision not null,
  refilled_at timestamptz not null default clock_timestamp(),
  primary key (namespace, name)
);
