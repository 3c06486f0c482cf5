-- requires-code: 0.1.0
-- What an autoscaler asks: how much there is for workers. 0 only where nothing would be done by one.

create view memory_pending_work as
select
  -- A job whose chunks are all there still has its index to be built; one that is paused for its budget goes on by
  -- itself, which a worker notices.
  (select coalesce(sum(case when state = 'running' then greatest(1, total - done) else 1 end), 0)
   from memory_reembed_jobs where state = 'running' or (state = 'paused' and paused_for = 'budget'))
  + (select count(*) from memory_embedding_pending)
  + (select count(*) from memory_embedding_quarantine where retry_at <= now()) as chunks;
