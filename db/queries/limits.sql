-- name: put_limit
-- Write a kind's limit; what is not asked for stays as it is. Tells whether it is new. Another rate begins with what was
-- spent under the one before, as far as its own bursts allow.
INSERT INTO llm.limits AS l (kind, max_running, rate, per_s, burst)
VALUES (%(kind)s, %(max_running)s::integer, %(rate)s::integer, %(per_s)s::float8, coalesce(%(burst)s::integer, 1))
ON CONFLICT (kind) DO UPDATE
   SET max_running = CASE WHEN %(change_running)s THEN excluded.max_running ELSE l.max_running END,
       rate = CASE WHEN %(change_rate)s THEN excluded.rate ELSE l.rate END,
       per_s = CASE WHEN %(change_rate)s THEN excluded.per_s ELSE l.per_s END,
       burst = CASE WHEN %(burst)s::integer IS NULL THEN l.burst ELSE excluded.burst END,
       next_at = least(l.next_at, clock_timestamp() + CASE
           WHEN %(change_rate)s THEN excluded.burst * make_interval(secs => excluded.per_s / excluded.rate)
           WHEN %(burst)s::integer IS NOT NULL THEN excluded.burst * make_interval(secs => l.per_s / l.rate) END),
       updated_at = clock_timestamp()
RETURNING xmax = 0 AS added;

-- name: declare_limits
-- Write what code declares, where nobody wrote anything before: a row that is there is the operator's.
INSERT INTO llm.limits (kind, max_running, rate, per_s, burst)
SELECT kind, max_running, rate, per_s, burst
  FROM json_to_recordset(%(batch)s::json) AS b (
           kind text, max_running integer, rate integer, per_s double precision, burst integer)
 ORDER BY kind
ON CONFLICT DO NOTHING
RETURNING kind;

-- name: remove_limit
-- A kind without a row may run as much as there are threads.
DELETE FROM llm.limits WHERE kind = %(kind)s RETURNING kind;

-- name: limits
-- All of them, with how much of each runs now.
SELECT l.kind, l.max_running, l.rate, l.per_s, l.burst, coalesce(r.n, 0) AS running, l.updated_at
  FROM llm.limits l
  LEFT JOIN (SELECT kind, count(*) AS n FROM llm.jobs WHERE status = 'running' GROUP BY kind) AS r USING (kind)
 ORDER BY l.kind;

-- name: pause_queue
-- Have nothing of a queue claimed; running jobs run on. Nothing happens to one that is paused.
INSERT INTO llm.paused_queues (name) VALUES (%(name)s) ON CONFLICT DO NOTHING RETURNING name;

-- name: resume_queue
-- Have a queue claimed from again.
DELETE FROM llm.paused_queues WHERE name = %(name)s RETURNING name;

-- name: queues
-- Every queue with jobs in it, or paused, with how many wait and run.
-- Also how long the first has waited that may be run by now (seconds), and since when it is paused.
WITH waiting AS MATERIALIZED (
    SELECT queue AS name, count(*) AS n,
           extract(epoch FROM statement_timestamp() - min(greatest(queued_at, run_at)) FILTER (
               WHERE run_at <= statement_timestamp() AND NOT blocked))::float8 AS oldest_s
      FROM llm.jobs WHERE status = 'queued' GROUP BY queue
), working AS MATERIALIZED (
    SELECT queue AS name, count(*) AS n FROM llm.jobs WHERE status = 'running' GROUP BY queue
)
SELECT name, coalesce(w.n, 0) AS queued, coalesce(r.n, 0) AS running, w.oldest_s, p.paused_at
  FROM waiting w FULL JOIN working r USING (name) FULL JOIN llm.paused_queues p USING (name)
 ORDER BY name;
