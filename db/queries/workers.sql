-- name: worker_seen
-- Say who is at work; the first time, and with every heartbeat.
INSERT INTO llm.workers AS w (id, name, host, pid, version, kinds, threads, running)
VALUES (%(id)s, %(name)s, %(host)s, %(pid)s, %(version)s, %(kinds)s, %(threads)s, %(running)s)
ON CONFLICT (id) DO UPDATE
   SET seen_at = clock_timestamp(), running = excluded.running, kinds = excluded.kinds, stopped_at = NULL;

-- name: worker_stopped
-- A worker left in good order.
UPDATE llm.workers SET stopped_at = clock_timestamp(), running = 0 WHERE id = %(id)s;

-- name: workers
-- Workers seen within the last while, newest first.
SELECT id, name, host, pid, version, kinds, threads, running, started_at, seen_at, stopped_at
  FROM llm.workers
 WHERE stopped_at IS NULL AND seen_at > statement_timestamp() - make_interval(secs => %(within_s)s)
 ORDER BY started_at DESC LIMIT 1000;

-- name: forget_workers
-- Drop the rows of workers not seen for a day.
DELETE FROM llm.workers WHERE seen_at < statement_timestamp() - interval '1 day';

-- name: health
-- Does the database answer, and does the schema stand?
SELECT count(*) AS migrations FROM llm.schema_migrations;
