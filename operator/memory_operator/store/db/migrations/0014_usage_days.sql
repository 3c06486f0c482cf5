-- requires-code: 0.1.0
-- What calls used, by day: rows of the ledger are added up here once they are old, and stay for ever.

create table memory_usage_days (
  id bigint generated always as identity primary key,
  day date not null,
  purpose text not null,
  model text not null,
  tenant_id int references memory_tenants,
  provider_namespace text not null,
  provider_name text not null,
  -- Calls of this tenant. A call that several tenants share is counted for each of them.
  calls bigint not null,
  unanswered_calls bigint not null,
  refused_calls bigint not null,
  -- The same, a shared call counted for one of them only: what is added up for all tenants.
  whole_calls bigint not null,
  whole_unanswered_calls bigint not null,
  whole_refused_calls bigint not null,
  inputs numeric not null,
  tokens numeric not null,
  uncounted_tokens numeric not null,
  -- Null where no price was known for any of it.
  cost numeric,
  unique nulls not distinct (day, purpose, model, tenant_id, provider_namespace, provider_name)
);
create index memory_usage_days_tenant on memory_usage_days (tenant_id, day);
