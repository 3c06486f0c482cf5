-- requires-code: 0.1.0
-- Whether the models of spaces are still there, and still the same ones. Release 0.1 neither reads nor writes it.

create table memory_model_checks (
  space_id bigint primary key references memory_embedding_spaces on delete cascade,
  -- Since when the vendor says that it has no such model any more, and when it said so last; null once it embeds again.
  gone_since timestamptz,
  gone_seen_at timestamptz,
  -- When the fixed texts are embedded next.
  due_at timestamptz,
  -- Their first vectors, one after the other, as 4-byte numbers.
  fingerprint bytea,
  -- How far the same texts were from each other when they were embedded twice at first, and how far they are by now.
  noise double precision,
  drift double precision,
  -- Checks in a row that were further than noise explains, and since when.
  drifts int not null default 0,
  drifted_since timestamptz
);
