-- requires-code: 0.1.0
-- A question of common words with a filter reads the newest memories that match it: the newest chunks may
-- have none of those, as where only what is older than a date is wanted. This changes four places of 0024.

do $do$
declare
  search text := pg_get_functiondef('memory_find_by_words'::regproc);
begin
  search := replace(search, 'where c.tsv @@ any_common and', 'where not filtered and c.tsv @@ any_common and');
  search := replace(search, '(table in_index union all table newest) c) m',
    '(table in_index union all table newest union all table of_filter) c) m');
  search := replace(search, '  select distinct on (m.hit) m.hit, m.id, m.score, m.has_all from (', $sql$  ,
  of_filter as (
    select c.id, c.entry_id, c.tsv from (
      select e.id from memory_entries e where filtered and e.project_id = in_project and e.current and not e.tombstone
      and (of_type is null or e.type = of_type) and (of_tags is null or e.tags @> of_tags)
      and (of_source is null or e.source = of_source) and (after is null or e.created_at > after)
      and (before is null or e.created_at < before) order by e.created_at desc limit newest_filtered) e
    join memory_chunks c on c.entry_id = e.id where c.live and c.tsv @@ any_common limit newest_matches)
  select distinct on (m.hit) m.hit, m.id, m.score, m.has_all from ($sql$);
  search := replace(search, '  newest_matches constant int := 160;',
    '  newest_matches constant int := 160;' || E'\n' || '  newest_filtered constant int := 1000;  -- memories');
  execute search;
end $do$;
