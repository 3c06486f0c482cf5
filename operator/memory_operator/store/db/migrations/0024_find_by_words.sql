-- requires-code: 0.1.0
-- The full-text channel of a query in one call: the question's words as the index has them, then the memories that have
-- them. The release before asks by statements of its own. store/memories/fulltext.py says what is looked for, and why.

do $do$
declare
  -- What a chunk `c` must be. The plans are made for the values at hand, so that what is null falls away.
  matches text := $sql$ (not filtered or (select true from memory_entries e where e.id = c.entry_id
    and e.project_id = in_project and e.current and not e.tombstone
    and (of_type is null or e.type = of_type) and (of_tags is null or e.tags @> of_tags)
    and (of_source is null or e.source = of_source) and (after is null or e.created_at > after)
    and (before is null or e.created_at < before))) $sql$;
  scope text := $sql$ c.live and c.project_id = in_project and (listed is null or c.id = any(listed)) $sql$;
  body text := $sql$
create function memory_find_by_words(
  in_project int, written text[], parts text[], words text[], singles text[], pairs int, question_language text,
  most_words int, wanted int, by_chunk boolean, narrow boolean, common text[], few boolean,
  of_type text, of_tags text[], of_source text, after timestamptz, before timestamptz)
returns table (key bigint, chunk_id bigint, score float8, has_all boolean)
language plpgsql stable set plan_cache_mode = force_custom_plan as $fn$
#variable_conflict use_variable
declare
  enough constant int := 600;           -- matches of all words that are ranked
  looked_at constant int := 1000;       -- matches of all words that are read, whichever they are
  rare constant int := 128;             -- matches of a word that can all be looked at
  newest_chunks constant int := 4000;   -- that stand for a project where an index would show too many
  newest_matches constant int := 160;
  scale constant float8 := 100000;
  common_weight constant float8 := ln(1 + scale / (4 * rare));
  only_english boolean;
  names text[];
  forms text[];
  found_words text[];
  queries tsquery[];
  every tsquery;
  within tsquery;
  any_common tsquery;
  pairs_of_common tsquery;
  lexeme tsquery := format('''project %s''', in_project)::tsquery;
  filtered boolean := num_nonnulls(of_type, of_tags, of_source, after, before) > 0;
  listed bigint[];
  too_common tsvector := array_to_tsvector(common);
  by_newest boolean;
  hits int := 0;
  number int;
  ids bigint[];
  entries bigint[];
  places bigint[];
  weights float8[];
  total float8;
  commons tsquery[];
begin
  -- The words as the index has them. In English alone, which most projects are, it takes the least.
  select p.languages = array['english'] and p.language in ('auto', 'english'),
    array(select distinct l.name from unnest(case when p.language <> 'auto' and p.words_after is null
      then array[p.language] else p.languages || question_language end) l (name) where l.name is not null)
    into only_english, names from memory_projects p where p.id = in_project;
  if only_english and coalesce(question_language, 'english') = 'english' and cardinality(written) = 1
    and cardinality(singles) = 0 and pairs = 0 then
    forms := array[websearch_to_tsquery('english', written[1])::text, plainto_tsquery('english', parts[1])::text];
    found_words := array(select '''' || replace(replace(x.lexeme, '\', '\\'), '''', '''''') || ''''
      from unnest(to_tsvector('english', words[1])) x order by length(x.lexeme) desc, x.lexeme limit most_words);
  else
    -- The parser is the same for every configuration, so that a word has one position in all of them: what the
    -- configurations make of it stands there. Small words of the question's own language say nothing in any of them.
    forms := array(
      select websearch_to_tsquery(n::regconfig, one)::text from unnest(names) n, unnest(written) one
      union select plainto_tsquery(n::regconfig, one)::text from unnest(names) n, unnest(parts) one);
    found_words := array(
      with vectors as materialized (
        select to_tsvector(n::regconfig, one) as v from unnest(names) n, unnest(words) one),
      places as (select max(length(x.lexeme)) as longest,
          string_agg(distinct '''' || replace(replace(x.lexeme, '\', '\\'), '''', '''''') || '''', ' | ') as query
        from vectors, unnest(v) x, unnest(x.positions) place
        where question_language is null or place in (
          select o from unnest(to_tsvector(question_language::regconfig, words[1])) q, unnest(q.positions) o)
        group by place)
      select query from places group by query order by max(longest) desc, query limit most_words);
    number := cardinality(found_words);
    found_words := found_words || array(select format('''%s'':*', one) from unnest(singles) one);
    if cardinality(found_words) > 0 and number < most_words
      and (cardinality(names) > 1 or cardinality(singles) > 0 or pairs > 0) then
      forms := forms || (select string_agg('(' || one || ')', ' & ') from unnest(found_words) one);
    end if;
  end if;
  if cardinality(found_words) = 0 then return; end if;
  queries := array(select one::tsquery from unnest(found_words) with ordinality w (one, place) order by place);
  every := (select string_agg('(' || one || ')', ' | ') from unnest(forms) one where one <> '')::tsquery;

  -- Where few memories match the filters, what they have of the words.
  if few then
    any_common := (select string_agg('(' || one || ')', ' | ') from unnest(found_words || every::text) one)::tsquery;
    listed := array(select c.id from memory_chunks c where c.id = any(array(
        select m.id from memory_chunks m where m.live and m.entry_id = any(array(
          select e.id from memory_entries e where e.project_id = in_project and e.current and not e.tombstone
          and (of_type is null or e.type = of_type)
          and (of_tags is null or memory_scoped_tags(e.project_id, e.tags) @> memory_scoped_tags(in_project, of_tags))
          and (of_source is null or e.source = of_source) and (after is null or e.created_at > after)
          and (before is null or e.created_at < before)))))
      and c.tsv @@ any_common order by c.id desc limit 20000);
    if cardinality(listed) = 0 then return; end if;
    filtered := false;
  end if;

  -- All words. An index that would show too many is not asked: that of words which are all too common.
  by_newest := coalesce(too_common @@ regexp_replace(every::text, '<(-|\d+)>', '&', 'g')::tsquery, false);
  if every is not null and not by_newest then
    within := case when narrow then lexeme && every else every end;
    return query
    with in_index as materialized (
      select c.id, c.entry_id, c.tsv from memory_chunks c where {scope} and c.tsv @@ within and {matches}
      limit looked_at),
    newest as (
      select c.id, c.entry_id, c.tsv from (
        select c.id, c.entry_id, c.tsv from memory_chunks c where {scope} order by c.id desc limit newest_chunks) c
      where (select count(*) from in_index) = looked_at and c.tsv @@ every and {matches} limit enough),
    ranked as (
      select distinct on (u.id) u.id, u.entry_id, u.tsv from (table in_index union all table newest) u
      order by u.id desc limit enough),
    best as (
      select distinct on (m.hit) m.hit, m.id, m.score from (
        select case when by_chunk then r.id else r.entry_id end as hit, r.id,
          0.5 + 0.5 * ts_rank_cd(r.tsv, every, 32)::float8 as score from ranked r) m
      order by m.hit, m.score desc, m.id)
    select b.hit, b.id, b.score, true from best b order by b.score desc, b.hit desc limit wanted;
    get diagnostics hits = row_count;
    if hits >= wanted then return; end if;
  end if;

  -- Each word: the fewer matches it has, the more it says. One plan serves all words, and asks the index.
  select coalesce(array_agg(m.id), '{}'), coalesce(array_agg(m.entry_id), '{}'), coalesce(array_agg(w.place), '{}')
    into ids, entries, places from unnest(queries) with ordinality w (query, place), lateral (
      select c.id, c.entry_id from memory_chunks c where {scope}
      and c.tsv @@ case when narrow then lexeme && w.query else w.query end limit rare + 1) m
    where not too_common @@ w.query;
  weights := array(
    select case when too_common @@ q.query or m.hits > rare then common_weight
      else coalesce(ln(1 + scale / m.hits), 0) end
    from unnest(queries) with ordinality q (query, place)
    left join (select p.place, count(*) as hits from unnest(places) p (place) group by p.place) m on m.place = q.place
    order by q.place);
  commons := array(select q.query from unnest(queries, weights) with ordinality q (query, weight, place)
    where q.weight = common_weight order by q.place);
  total := (select sum(w) from unnest(weights) w);
  return query
  with shown as (
    select c.id, c.entry_id, sum(weights[c.place]) as weight from unnest(ids, entries, places) c (id, entry_id, place)
    where weights[c.place] > common_weight and {matches} group by c.id, c.entry_id),
  best as (
    select distinct on (s.hit) s.hit, s.id, s.weight from (
      select case when by_chunk then s.id else s.entry_id end as hit, s.id, s.weight from shown s) s
    order by s.hit, s.weight desc, s.id desc),
  first as (select b.hit, b.id from best b order by b.weight desc, b.id desc limit 2 * wanted)
  select f.hit, f.id, 0.5 * (select sum(w.weight) from unnest(queries, weights) w (query, weight)
      where c.tsv @@ w.query) / total, false
    from first f join memory_chunks c on c.id = f.id;
  get diagnostics hits = row_count;
  if cardinality(commons) = 0 or hits >= wanted and not by_newest then return; end if;

  -- Common words: two of them together, and the newest.
  for number in 1 .. least(4, cardinality(commons)) loop
    for other in number + 1 .. least(4, cardinality(commons)) loop
      if not (too_common @@ commons[number] and too_common @@ commons[other]) then
        within := commons[number] && commons[other];
        pairs_of_common := case when pairs_of_common is null then within else pairs_of_common || within end;
      end if;
    end loop;
  end loop;
  within := case when narrow then lexeme && pairs_of_common else pairs_of_common end;
  if narrow or few then
    ids := array(select c.id from memory_chunks c where {scope} and c.tsv @@ within and {matches}
      order by c.id desc limit newest_matches);
    if hits + cardinality(ids) < wanted then
      for number in 1 .. cardinality(commons) loop
        within := case when narrow then lexeme && commons[number] else commons[number] end;
        ids := ids || array(select c.id from memory_chunks c where {scope} and c.tsv @@ within and {matches}
          order by c.id desc limit newest_matches / cardinality(commons));
      end loop;
    end if;
    return query
    select distinct on (m.hit) m.hit, m.id, 0.5 * m.weight / total, false from (
      select case when by_chunk then c.id else c.entry_id end as hit, c.id,
        common_weight * (select count(*) from unnest(commons) w where c.tsv @@ w) as weight
      from memory_chunks c where c.id = any(ids)) m
    order by m.hit, m.weight desc, m.id;
    return;
  end if;
  any_common := (select string_agg('(' || one::text || ')', ' | ') from unnest(commons) one)::tsquery;
  return query
  with in_index as (
    select c.id, c.entry_id, c.tsv from memory_chunks c where {scope} and c.tsv @@ within and {matches}
    limit newest_matches),
  newest as (
    select c.id, c.entry_id, c.tsv from (
      select c.id, c.entry_id, c.tsv from memory_chunks c where {scope} order by c.id desc limit newest_chunks) c
    where c.tsv @@ any_common and {matches} limit newest_matches)
  select distinct on (m.hit) m.hit, m.id, m.score, m.has_all from (
    select case when by_chunk then c.id else c.entry_id end as hit, c.id, by_newest and c.tsv @@ every as has_all,
      case when by_newest and c.tsv @@ every then 0.5 + 0.5 * ts_rank_cd(c.tsv, every, 32)
      else 0.5 * common_weight * (select count(*) from unnest(commons) w where c.tsv @@ w) / total end as score
    from (table in_index union all table newest) c) m
  order by m.hit, m.score desc, m.id;
end $fn$
$sql$;
begin
  execute replace(replace(body, '{matches}', matches), '{scope}', scope);
  execute 'alter function memory_find_by_words set search_path = ' || current_setting('search_path') || ', pg_temp';
end $do$;
