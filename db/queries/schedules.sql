-- name: clock
-- What time it is: the database's clock is the only one that counts.
SELECT statement_timestamp() AS now;

-- name: put_schedules
-- Write a batch of definitions and return those that changed something. A row that says the same already stays as it is;
-- the next tick is counted anew only for another line or zone. What was paused for its error gets another try.
INSERT INTO llm.schedules AS s (name, kind, payload, cron, timezone, queue, priority, max_attempts, source, next_at)
SELECT name, kind, payload, cron, timezone, queue, priority, max_attempts, source, next_at
  FROM json_to_recordset(%(batch)s::json) AS b (
           name text, kind text, payload text, cron text, timezone text, queue text, priority integer,
           max_attempts integer, source text, next_at timestamptz)
 ORDER BY name
ON CONFLICT (name) DO UPDATE
   SET kind = excluded.kind, payload = excluded.payload, cron = excluded.cron, timezone = excluded.timezone,
       queue = excluded.queue, priority = excluded.priority, max_attempts = excluded.max_attempts,
       source = excluded.source,
       next_at = CASE WHEN (s.cron, s.timezone) = (excluded.cron, excluded.timezone) THEN s.next_at
                      ELSE excluded.next_at END,
       paused_at = CASE WHEN s.error IS NULL THEN s.paused_at END, error = NULL,
       updated_at = clock_timestamp()
 WHERE (s.kind, s.payload, s.cron, s.timezone, s.queue, s.priority, s.max_attempts, s.source)
       <> (excluded.kind, excluded.payload, excluded.cron, excluded.timezone, excluded.queue, excluded.priority,
           excluded.max_attempts, excluded.source)
RETURNING name, xmax = 0 AS added;

-- name: due_schedules
-- Up to n schedules whose time has come, the longest overdue first, and what time it is.
SELECT name, cron, timezone, next_at AS due_at, statement_timestamp() AS now FROM llm.schedules
 WHERE paused_at IS NULL AND next_at <= statement_timestamp()
 ORDER BY next_at LIMIT %(n)s;

-- name: fire_schedule
-- Submit the job of one due tick and move on to the next tick, in one commit. Nothing happens when somebody was quicker
-- or the schedule is another one by now. The key has a tick make one job only, whatever was moved back by hand.
WITH due AS MATERIALIZED (
    SELECT name, kind, payload, priority, source, max_attempts, queue FROM llm.schedules
     WHERE name = %(name)s AND next_at = %(due_at)s AND cron = %(cron)s AND timezone = %(timezone)s
       AND paused_at IS NULL
       FOR UPDATE SKIP LOCKED
), submitted AS MATERIALIZED (
    SELECT name, llm.add_job(%(job_id)s, kind, payload, priority, source, max_attempts, NULL, 0, queue, %(key)s) AS id
      FROM due
)
UPDATE llm.schedules s
   SET next_at = %(next_at)s, last_at = clock_timestamp(), last_job_id = submitted.id
  FROM submitted WHERE s.name = submitted.name
RETURNING s.last_job_id AS job_id;

-- name: run_schedule
-- Submit a job of a schedule now, whatever its clock says, and leave that alone.
WITH asked AS MATERIALIZED (
    SELECT name, kind, payload, priority, source, max_attempts, queue FROM llm.schedules
     WHERE name = %(name)s FOR UPDATE
), submitted AS MATERIALIZED (
    SELECT name, llm.add_job(%(job_id)s, kind, payload, priority, source, max_attempts, NULL, 0, queue, NULL) AS id
      FROM asked
)
UPDATE llm.schedules s SET last_at = clock_timestamp(), last_job_id = submitted.id
  FROM submitted WHERE s.name = submitted.name
RETURNING s.last_job_id AS job_id;

-- name: spoil_schedule
-- Pause a schedule that cannot go on, and say why; not one that was put right meanwhile.
UPDATE llm.schedules SET paused_at = clock_timestamp(), error = %(error)s, updated_at = clock_timestamp()
 WHERE name = %(name)s AND next_at = %(due_at)s AND cron = %(cron)s AND timezone = %(timezone)s AND paused_at IS NULL
RETURNING name;

-- name: pause_schedule
-- Submit nothing until it is resumed.
UPDATE llm.schedules SET paused_at = clock_timestamp(), updated_at = clock_timestamp()
 WHERE name = %(name)s AND paused_at IS NULL
RETURNING name;

-- name: resume_schedule
-- Go on; what was missed meanwhile stays missed.
UPDATE llm.schedules SET paused_at = NULL, error = NULL, next_at = %(next_at)s, updated_at = clock_timestamp()
 WHERE name = %(name)s AND paused_at IS NOT NULL
RETURNING name;

-- name: remove_schedule
-- Forget a schedule; its jobs stay.
DELETE FROM llm.schedules WHERE name = %(name)s RETURNING name;

-- name: schedule
-- One schedule.
SELECT name, kind, payload, cron, timezone, queue, priority, max_attempts, source, paused_at, error, next_at, last_at,
       last_job_id, created_at, updated_at
  FROM llm.schedules WHERE name = %(name)s;

-- name: schedules
-- All of them: people make few.
SELECT name, kind, payload, cron, timezone, queue, priority, max_attempts, source, paused_at, error, next_at, last_at,
       last_job_id, created_at, updated_at
  FROM llm.schedules ORDER BY name;
