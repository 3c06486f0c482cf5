-- requires-code: 0.1.0
-- A marker that is recorded while its held change is given up at the same moment: whoever gives the change up waits for
-- the marker and withdraws it, or the marker serves no change yet. Before, it could stay valid for a change of the past.

create or replace function memory_consent_bind() returns trigger language plpgsql security definer as $$
begin
  with held as (
    select c.namespace, c.name, c.since from memory_pending_changes c
    where c.to_dim = new.target_dim and (new.provider is null or new.provider = c.namespace || '/' || c.name)
    order by c.namespace, c.name for share
  )
  insert into memory_consent_bindings (marker_id, namespace, name, change_since)
    select new.id, min(namespace), min(name), min(since) from held having count(*) = 1;
  return null;
end $$;

do $$
begin
  execute 'alter function memory_consent_bind() set search_path = ' || current_setting('search_path') || ', pg_temp';
end $$;
