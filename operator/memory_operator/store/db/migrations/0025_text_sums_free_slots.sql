-- requires-code: 0.1.0
-- Writers of one project no longer wait for each other at the sums of its texts: each adds to a row that no other
-- transaction has changed and not committed yet. Before, two sessions had one row where their numbers had the same rest.

create or replace function memory_sum_texts() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    insert into memory_text_sums as s (project_id, slot, chunks, bytes)
      select d.project_id, coalesce((select f.slot from memory_text_sums f where f.project_id = d.project_id
          order by f.slot limit 1 for no key update skip locked), 16 + pg_backend_pid() % 1000), d.chunks, d.bytes
      from (select c.project_id, count(*) as chunks, sum(octet_length(c.text)) as bytes
        from new_chunks c, memory_text_sums_backfill b
        where c.live and (c.id <= b.walked or c.id > b.bound) group by c.project_id) d
      order by d.project_id
      on conflict (project_id, slot) do update set chunks = s.chunks + excluded.chunks, bytes = s.bytes + excluded.bytes;
  elsif tg_op = 'DELETE' then
    insert into memory_text_sums as s (project_id, slot, chunks, bytes)
      select d.project_id, coalesce((select f.slot from memory_text_sums f where f.project_id = d.project_id
          order by f.slot limit 1 for no key update skip locked), 16 + pg_backend_pid() % 1000), -d.chunks, -d.bytes
      from (select c.project_id, count(*) as chunks, sum(octet_length(c.text)) as bytes
        from old_chunks c, memory_text_sums_backfill b
        where c.live and (c.id <= b.walked or c.id > b.bound) group by c.project_id) d
      order by d.project_id
      on conflict (project_id, slot) do update set chunks = s.chunks + excluded.chunks, bytes = s.bytes + excluded.bytes;
  else
    insert into memory_text_sums as s (project_id, slot, chunks, bytes)
      select d.project_id, coalesce((select f.slot from memory_text_sums f where f.project_id = d.project_id
          order by f.slot limit 1 for no key update skip locked), 16 + pg_backend_pid() % 1000), d.chunks, d.bytes
      from (select c.project_id, sum(c.n) as chunks, sum(c.n * octet_length(c.text)) as bytes
        from (select id, project_id, text, 1 as n from new_chunks where live
          union all select id, project_id, text, -1 from old_chunks where live) c, memory_text_sums_backfill b
        where c.id <= b.walked or c.id > b.bound group by c.project_id) d
      where d.chunks <> 0 or d.bytes <> 0 order by d.project_id
      on conflict (project_id, slot) do update set chunks = s.chunks + excluded.chunks, bytes = s.bytes + excluded.bytes;
  end if;
  return null;
end $$;
