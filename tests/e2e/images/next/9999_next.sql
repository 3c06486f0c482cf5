-- What a next release might add: the release before it goes on working on top.
-- requires-code: 0.1.0
create table memory_of_the_next_release (
    id bigint primary key
);
alter table memory_activity add column next_release_note text;
