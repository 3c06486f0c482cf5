-- requires-code: 0.1.0
-- Which index a space is to have, which one its queries use, and how long a Provider's vectors may be for it. Columns of
-- their own, since release 0.1 reads only the fields it knows in a space's configuration; it goes on with an exact scan.

alter table memory_embedding_spaces add column index_wanted jsonb;
alter table memory_embedding_spaces add column index_in_use jsonb;

alter table memory_providers add column most_dimensions int;
