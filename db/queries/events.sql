-- name: append
-- Add events to the running attempt; no row back: the lease is lost. Repeating a batch changes nothing.
-- FOR SHARE: the lease cannot end between the look and the write.
WITH lease AS MATERIALIZED (
    SELECT id, attempts, begun_at FROM llm.jobs
     WHERE id = %(job_id)s AND lease_token = %(token)s AND status = 'running' FOR SHARE
), added AS (
    INSERT INTO llm.job_events (job_id, attempt, seq, begun_at, type, data)
    SELECT lease.id, lease.attempts, e.seq, lease.begun_at, e.type, e.data
      FROM lease, unnest(%(seqs)s::integer[], %(types)s::text[], %(data)s::text[]) AS e (seq, type, data)
    ON CONFLICT DO NOTHING
)
SELECT id FROM lease;

-- name: follow
-- A job's status and the events of its newest attempt after a place, in one snapshot.
-- So when it says done, no event is missing. A place in another attempt is no place in this one: all of it is told.
SELECT job.status, job.attempts, e.seq, e.type, e.data
  FROM llm.jobs job LEFT JOIN LATERAL (
       SELECT v.seq, v.type, v.data FROM llm.job_events v
        WHERE v.job_id = job.id AND v.attempt = job.attempts AND v.begun_at = job.begun_at
          AND v.seq > CASE WHEN job.attempts = %(attempt)s THEN %(seq)s ELSE 0 END
        ORDER BY v.seq LIMIT %(n)s) e ON true
 WHERE job.id = %(job_id)s
 ORDER BY e.seq;

-- name: add_event_days
-- Make the next days' partitions.
SELECT llm.add_event_days(%(ahead)s) AS made;

-- name: drop_event_days
-- Drop partitions older than this many days.
SELECT llm.drop_event_days(%(days)s) AS dropped;
