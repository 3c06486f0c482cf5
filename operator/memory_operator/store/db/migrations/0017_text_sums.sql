-- requires-code: 0.1.0
-- How much text there is, kept by the database itself, so that it is right whichever release writes.

-- Live chunks of each project, and the bytes that are stored of them. Slots keep writers apart.
create table memory_text_sums (
  project_id int not null,
  slot smallint not null,
  chunks bigint not null,
  bytes bigint not null,
  primary key (project_id, slot)
) with (fillfactor = 50);

-- Chunks that were there before are added in slices: those up to `walked` have been, those after `bound` came later.
create table memory_text_sums_backfill (
  singleton boolean primary key default true check (singleton),
  walked bigint not null,
  bound bigint not null
);

create function memory_sum_texts() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    insert into memory_text_sums as s (project_id, slot, chunks, bytes)
      select c.project_id, pg_backend_pid() % 16, count(*), sum(octet_length(c.text))
      from new_chunks c, memory_text_sums_backfill b
      where c.live and (c.id <= b.walked or c.id > b.bound) group by c.project_id order by c.project_id
      on conflict (project_id, slot) do update set chunks = s.chunks + excluded.chunks, bytes = s.bytes + excluded.bytes;
  elsif tg_op = 'DELETE' then
    insert into memory_text_sums as s (project_id, slot, chunks, bytes)
      select c.project_id, pg_backend_pid() % 16, -count(*), -sum(octet_length(c.text))
      from old_chunks c, memory_text_sums_backfill b
      where c.live and (c.id <= b.walked or c.id > b.bound) group by c.project_id order by c.project_id
      on conflict (project_id, slot) do update set chunks = s.chunks + excluded.chunks, bytes = s.bytes + excluded.bytes;
  else
    insert into memory_text_sums as s (project_id, slot, chunks, bytes)
      select c.project_id, pg_backend_pid() % 16, sum(c.n), sum(c.n * octet_length(c.text))
      from (select id, project_id, text, 1 as n from new_chunks where live
        union all select id, project_id, text, -1 from old_chunks where live) c, memory_text_sums_backfill b
      where c.id <= b.walked or c.id > b.bound group by c.project_id having sum(c.n) <> 0
        or sum(c.n * octet_length(c.text)) <> 0 order by c.project_id
      on conflict (project_id, slot) do update set chunks = s.chunks + excluded.chunks, bytes = s.bytes + excluded.bytes;
  end if;
  return null;
end $$;

create trigger memory_text_sums_insert after insert on memory_chunks referencing new table as new_chunks
  for each statement execute function memory_sum_texts();
create trigger memory_text_sums_delete after delete on memory_chunks referencing old table as old_chunks
  for each statement execute function memory_sum_texts();
create trigger memory_text_sums_update after update on memory_chunks
  referencing old table as old_chunks new table as new_chunks
  for each statement execute function memory_sum_texts();

-- Nobody writes while a trigger is made: what has a number by now is there, or never will be.
insert into memory_text_sums_backfill (walked, bound)
  select 0, coalesce(pg_sequence_last_value(pg_get_serial_sequence('memory_chunks', 'id')::regclass), 0);
