-- name: spoken_attempts
-- How many of a job's attempts before this one had words that may have been sent to somebody.
SELECT count(*) AS n FROM llm.job_attempts a
 WHERE a.job_id = %(job_id)s AND a.attempt < %(attempt)s
   AND (SELECT true FROM llm.job_events e
         WHERE e.job_id = a.job_id AND e.attempt = a.attempt AND e.begun_at = a.started_at AND e.type = 'delta'
         LIMIT 1);

-- name: delete_job
-- Delete a job that is finished, and what is kept of its attempts; the events go with their day.
-- What an unfinished job needs stays.
WITH gone AS MATERIALIZED (
    SELECT o.id FROM llm.jobs o
     WHERE o.id = %(job_id)s AND o.finished_at IS NOT NULL
       AND (SELECT true FROM llm.job_needs n
             WHERE n.needs_id = o.id
               AND (SELECT j.status FROM llm.jobs j WHERE j.id = n.job_id) IN ('queued', 'running') LIMIT 1) IS NULL
       FOR UPDATE OF o
), told AS (
    DELETE FROM llm.job_attempts WHERE job_id = ANY (ARRAY(SELECT id FROM gone))
), needs AS (
    DELETE FROM llm.job_needs WHERE job_id = ANY (ARRAY(SELECT id FROM gone))
)
DELETE FROM llm.jobs WHERE id = ANY (ARRAY(SELECT id FROM gone)) RETURNING id;
