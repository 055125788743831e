-- name: depth
-- How many jobs wait, counted no further than `most`. The order is there for the index: nothing else is read.
SELECT count(*) AS n FROM (
    SELECT FROM llm.jobs WHERE status = 'queued' AND NOT blocked ORDER BY queued_at LIMIT %(most)s) AS waiting;

-- name: named
-- How many of these idempotency keys name a job still.
SELECT count(*) AS n FROM llm.jobs
 WHERE idempotency_key = ANY(%(keys)s) AND (key_until IS NULL OR key_until > statement_timestamp());
