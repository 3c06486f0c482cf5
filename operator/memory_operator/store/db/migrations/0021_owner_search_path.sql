-- requires-code: 0.1.0
-- What runs as the owner of the tables looks into the session's own temporary schema last. By default it comes first, and
-- whoever may make temporary objects could have their own function run as the owner.

do $$
declare
  path text := current_setting('search_path') || ', pg_temp';
begin
  execute 'alter function memory_consent_bind() set search_path = ' || path;
  execute 'alter function memory_show_active() set search_path = ' || path;
  execute 'alter function memory_drop_vectors(bigint) set search_path = ' || path;
end $$;
