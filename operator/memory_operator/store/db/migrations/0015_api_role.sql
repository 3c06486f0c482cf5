-- requires-code: 0.1.0
-- What the API changes of the schema itself, so that its role of the database needs no right to create, alter or drop.
-- Each runs as the owner of the tables, and only for whom migrate allows it.

-- Repoint the view of the active space to the space that is active now.
create function memory_show_active() returns void language plpgsql security definer
  set search_path from current as $$
declare
  active bigint := (select active_space_id from memory_registry);
begin
  execute 'create or replace view memory_embeddings as select ' || coalesce(
    'chunk_id, project_id, embedding::vector as embedding from memory_vectors_' || active,
    'null::bigint as chunk_id, null::int as project_id, null::vector as embedding where false');
end $$;
revoke execute on function memory_show_active() from public;

-- Drop the vectors of a space that queries do not read.
create function memory_drop_vectors(space bigint) returns void language plpgsql security definer
  set search_path from current as $$
begin
  if exists (select from memory_registry where active_space_id = space) then
    raise exception 'space % is active', space;
  end if;
  execute format('drop table if exists %I', 'memory_vectors_' || space);
end $$;
revoke execute on function memory_drop_vectors(bigint) from public;
