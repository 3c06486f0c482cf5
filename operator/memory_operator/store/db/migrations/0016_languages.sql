-- requires-code: 0.1.0
-- Words of every language. The release before writes and asks English alone, and finds what it wrote.

-- `auto`, or one of PostgreSQL's text search configurations for all chunks of the project; the configurations that its
-- chunks are indexed with; and after which chunk those are still to be looked at again, null where all have been.
alter table memory_projects
  add column language text not null default 'auto',
  add column languages text[] not null default '{english}',
  add column words_after bigint default 0;
alter table memory_projects alter column words_after set default null;

-- What `tsv` was made with; null: english, of the text as it is.
alter table memory_chunks add column language text;
