-- name: depth
-- How many jobs wait, counted no further than `most`. The order is there for the index: nothing else is read.
SELECT count(*) AS n FROM (
    SELECT FROM llm.jobs WHERE status = 'queued' ORDER BY queued_at LIMIT %(most)s) AS waiting;

-- name: waiting
-- For how long the oldest job of these kinds has been one to be claimed. Less than nothing: none is one yet, and the
-- first of those that were put off becomes one after so long. No row: none waits.
(SELECT extract(epoch FROM statement_timestamp() - greatest(updated_at, run_at))::float8 AS waited_s FROM llm.jobs
  WHERE status = 'queued' AND NOT blocked AND kind = ANY(%(kinds)s) AND run_at <= statement_timestamp()
    AND queue NOT IN (SELECT name FROM llm.paused_queues)
    AND (deadline_at IS NULL OR deadline_at > statement_timestamp())
  ORDER BY queued_at LIMIT 1)
UNION ALL
(SELECT extract(epoch FROM statement_timestamp() - run_at)::float8 FROM llm.jobs
  WHERE status = 'queued' AND NOT blocked AND kind = ANY(%(kinds)s)
    AND run_at > queued_at AND run_at > statement_timestamp()
    AND queue NOT IN (SELECT name FROM llm.paused_queues)
    AND (deadline_at IS NULL OR deadline_at > run_at)
  ORDER BY run_at LIMIT 1)
LIMIT 1;

-- name: named
-- How many of these idempotency keys name a job still.
SELECT count(*) AS n FROM llm.jobs
 WHERE idempotency_key = ANY(%(keys)s) AND (key_until IS NULL OR key_until > statement_timestamp());
