-- requires-code: 0.1.0
-- Which space each Provider asks for, and which held change each marker serves.

-- Identity of the space that a Provider asks for; null while it is not known, or the Provider is absent.
alter table memory_providers add column wanted_identity text;

-- A marker serves one held change: that of a Provider since a moment. It is bound when it is recorded, or, in advance,
-- when the first such change begins.
create table memory_consent_bindings (
  marker_id bigint primary key references memory_embedding_dim_change_consent on delete cascade,
  namespace text not null,
  name text not null,
  change_since timestamptz not null
);

-- Runs as the owner of the tables: who may insert a marker needs no other permission.
create function memory_consent_bind() returns trigger language plpgsql security definer
  set search_path from current as $$
begin
  insert into memory_consent_bindings (marker_id, namespace, name, change_since)
    select new.id, min(c.namespace), min(c.name), min(c.since) from memory_pending_changes c
    where c.to_dim = new.target_dim and (new.provider is null or new.provider = c.namespace || '/' || c.name)
    having count(*) = 1;
  return null;
end $$;
create trigger memory_consent_bind after insert on memory_embedding_dim_change_consent
  for each row execute function memory_consent_bind();
