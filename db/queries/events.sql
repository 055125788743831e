-- name: append
-- Add events to the running attempt; no row back: the lease is lost. Repeating a batch changes nothing.
-- FOR SHARE: the lease cannot end between the look and the write.
WITH lease AS MATERIALIZED (
    SELECT id, attempts FROM llm.jobs
     WHERE id = %(job_id)s AND lease_token = %(token)s AND status = 'running' FOR SHARE
), added AS (
    INSERT INTO llm.job_events (job_id, attempt, seq, type, data)
    SELECT lease.id, lease.attempts, e.seq, e.type, e.data
      FROM lease, unnest(%(seqs)s::integer[], %(types)s::text[], %(data)s::text[]) AS e (seq, type, data)
     WHERE NOT EXISTS (
           SELECT FROM llm.job_events old
            WHERE old.job_id = lease.id AND old.attempt = lease.attempts
              AND old.seq = (%(seqs)s::integer[])[1])
)
SELECT id FROM lease;

-- name: follow
-- A job's status and its events after a place, in one snapshot: when it says done, no event is missing.
WITH job AS MATERIALIZED (
    SELECT id, status, attempts, updated_at, queued_at FROM llm.jobs WHERE id = %(job_id)s
)
SELECT job.status, job.attempts, job.updated_at, e.attempt, e.seq, e.type, e.data
  FROM job LEFT JOIN LATERAL (
       SELECT v.attempt, v.seq, v.type, v.data FROM llm.job_events v
        WHERE v.job_id = job.id AND (v.attempt, v.seq) > (%(attempt)s::integer, %(seq)s::integer)
          AND v.created_at >= job.queued_at - interval '1 minute'
        ORDER BY v.attempt, v.seq LIMIT %(n)s) e ON true
 ORDER BY e.attempt, e.seq;

-- name: add_event_days
-- Make the next days' partitions.
SELECT llm.add_event_days(%(ahead)s) AS made;

-- name: drop_event_days
-- Drop partitions older than this many days.
SELECT llm.drop_event_days(%(days)s) AS dropped;
