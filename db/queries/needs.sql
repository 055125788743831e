-- name: await_needs
-- Wait until nobody is in the middle of finishing what these jobs need.
-- Who has looked for followers before ours were there holds its lock until it commits.
SELECT o.id FROM llm.jobs o
 WHERE o.id = ANY (ARRAY(SELECT needs_id FROM llm.job_needs WHERE job_id = ANY(%(job_ids)s::uuid[])))
   AND o.status = 'running'
 ORDER BY o.id FOR KEY SHARE;

-- name: advance
-- Judge the blocked jobs that need one of `needed`, and those of `job_ids`.
-- Up to n of them may be claimed from now on, or end because a job they need ended in error, and with them at once
-- whatever needs them in turn. The others wait on. A job that is gone was done. Said after the finishing commit: the
-- later of two that finish sees both.
WITH RECURSIVE asked AS MATERIALIZED (
    SELECT job_id AS id FROM llm.job_needs WHERE needs_id = ANY(%(needed)s::uuid[])
     UNION SELECT unnest(%(job_ids)s::uuid[])
), found AS MATERIALIZED (
    -- Rows are looked up one by one here, whatever the planner believes of tables that grew since they were analyzed.
    -- The newest need first: it is the likeliest to be unfinished.
    SELECT j.id, (SELECT true FROM llm.job_needs n
                   WHERE n.job_id = j.id AND (SELECT o.status FROM llm.jobs o WHERE o.id = n.needs_id) IN ('queued', 'running')
                   ORDER BY n.place DESC LIMIT 1) AS waits
      FROM asked a CROSS JOIN LATERAL (
           SELECT b.id FROM llm.jobs b WHERE b.id = a.id AND b.status = 'queued' AND b.blocked OFFSET 0) AS j
), judged AS MATERIALIZED (
    -- All that one needs is looked at once in the end, not whenever one of them is finished.
    SELECT f.id, f.waits, CASE
        WHEN f.waits AND f.id <> ALL(%(job_ids)s::uuid[]) THEN (
            SELECT n.needs_id FROM llm.job_needs n
             WHERE n.needs_id = ANY(%(needed)s::uuid[]) AND n.job_id = f.id AND NOT n.may_fail
               AND (SELECT o.status FROM llm.jobs o WHERE o.id = n.needs_id) = 'error' LIMIT 1)
        ELSE (
            SELECT n.needs_id FROM llm.job_needs n
             WHERE n.job_id = f.id AND NOT n.may_fail
               AND (SELECT o.status FROM llm.jobs o WHERE o.id = n.needs_id) = 'error' ORDER BY n.place LIMIT 1) END AS cause
      FROM found f
), doomed (id, cause) AS (
    SELECT id, cause FROM judged WHERE cause IS NOT NULL
     UNION
    SELECT n.job_id, n.needs_id FROM doomed d CROSS JOIN LATERAL (
           SELECT e.job_id, e.needs_id FROM llm.job_needs e
            WHERE e.needs_id = d.id AND NOT e.may_fail
              AND (SELECT j.status = 'queued' AND j.blocked FROM llm.jobs j WHERE j.id = e.job_id) OFFSET 0) AS n
), verdict AS MATERIALIZED (
    SELECT id, cause FROM (
        SELECT id, NULL::uuid AS cause FROM judged WHERE cause IS NULL AND waits IS NULL
         UNION ALL (SELECT DISTINCT ON (id) id, cause FROM doomed)) AS u
     LIMIT %(n)s
), held AS MATERIALIZED (
    -- Rows are locked in one order, whoever asks.
    SELECT j.id FROM llm.jobs j
     WHERE j.id = ANY (ARRAY(SELECT id FROM verdict)) AND j.status = 'queued' AND j.blocked ORDER BY j.id FOR UPDATE
), moved AS (
    UPDATE llm.jobs j
       SET blocked = v.cause IS NOT NULL,
           run_at = CASE WHEN v.cause IS NULL THEN greatest(j.run_at, clock_timestamp()) ELSE j.run_at END,
           status = CASE WHEN v.cause IS NULL THEN 'queued' ELSE 'error' END,
           reason = CASE WHEN v.cause IS NOT NULL THEN 'dependency_failed' END,
           error = CASE WHEN v.cause IS NOT NULL THEN 'job ' || v.cause || ', which it needed, ended in error' END,
           finished_at = CASE WHEN v.cause IS NOT NULL THEN clock_timestamp() END, updated_at = clock_timestamp()
      FROM verdict v WHERE j.id = v.id AND j.id = ANY (ARRAY(SELECT id FROM held))
    RETURNING j.id, j.status
), unblocked AS (
    DELETE FROM llm.blocked_jobs WHERE job_id = ANY (ARRAY(SELECT id FROM moved))
)
SELECT id, status FROM moved;

-- name: blocked
-- A page of the jobs that are blocked, after the id `after`; what is not blocked any more is taken off the list.
WITH page AS MATERIALIZED (
    SELECT b.job_id, (SELECT true FROM llm.jobs j
                       WHERE j.id = b.job_id AND j.status = 'queued' AND j.blocked LIMIT 1) AS waits
      FROM llm.blocked_jobs b WHERE b.job_id > %(after)s ORDER BY b.job_id LIMIT %(n)s
), gone AS (
    DELETE FROM llm.blocked_jobs WHERE job_id = ANY (ARRAY(SELECT job_id FROM page WHERE waits IS NULL))
)
SELECT job_id FROM page ORDER BY job_id;

-- name: inputs
-- The results of what a job needs, in order; NULL for one that has none (any more).
SELECT CASE WHEN j.result_until IS NULL OR j.result_until > statement_timestamp() THEN j.result END AS result
  FROM llm.job_needs n LEFT JOIN llm.jobs j ON j.id = n.needs_id
 WHERE n.job_id = %(job_id)s ORDER BY n.place;

-- name: statuses
-- Where these jobs stand; of one that is gone, nothing.
SELECT id, status FROM llm.jobs WHERE id = ANY(%(job_ids)s::uuid[]);

-- name: outcomes
-- How these jobs ended.
SELECT id, status, reason, error,
       CASE WHEN result_until IS NULL OR result_until > statement_timestamp() THEN result END AS result
  FROM llm.jobs WHERE id = ANY(%(job_ids)s::uuid[]);
