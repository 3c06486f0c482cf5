-- requires-code: 0.1.0
-- Jobs that stop after so many chunks, and pause between two calls; which chunks a job has skipped, and why. Release 0.1
-- knows neither: it walks the ranges of such a job, which end where it ends, and then fills the rest as well.

alter table memory_reembed_jobs
  add column max_rows bigint,
  add column sleep_ms int not null default 0;

create table memory_reembed_skipped (
  job_id bigint not null references memory_reembed_jobs on delete cascade,
  -- No foreign key, so that nobody who deletes a chunk has to look here: a row whose chunk is gone is shown to nobody.
  chunk_id bigint not null,
  reason text not null,
  primary key (job_id, chunk_id)
);
