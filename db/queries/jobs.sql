-- name: submit
-- Add one job, or find the one this id or key already named.
SELECT llm.add_job(
    id => %(id)s, kind => %(kind)s, payload => %(payload)s, priority => %(priority)s, source => %(source)s,
    max_attempts => %(max_attempts)s, deadline_at => %(deadline_at)s::timestamptz,
    delay_s => %(delay_s)s::double precision, queue => %(queue)s, idempotency_key => %(idempotency_key)s::text) AS id;

-- name: claim
-- Lease up to n jobs: those past the ageing bound first, then the highest priority, then the oldest.
WITH aged AS MATERIALIZED (
    SELECT id FROM llm.jobs
     WHERE status = 'queued' AND kind = ANY(%(kinds)s)
       AND queued_at < statement_timestamp() - make_interval(secs => %(ageing_s)s)
       AND run_at <= statement_timestamp()
       AND (deadline_at IS NULL OR deadline_at > statement_timestamp())
     ORDER BY queued_at LIMIT %(n)s FOR UPDATE SKIP LOCKED
), fresh AS MATERIALIZED (
    SELECT id FROM llm.jobs
     WHERE status = 'queued' AND kind = ANY(%(kinds)s)
       AND queued_at >= statement_timestamp() - make_interval(secs => %(ageing_s)s)
       AND run_at <= statement_timestamp()
       AND (deadline_at IS NULL OR deadline_at > statement_timestamp())
     ORDER BY priority DESC, queued_at
     LIMIT (SELECT %(n)s - count(*) FROM aged) FOR UPDATE SKIP LOCKED
), taken AS (
    -- By an array: a join would be planned for a tenth of the table, which is what a LIMIT not known beforehand counts as.
    UPDATE llm.jobs j
       SET status = 'running', attempts = j.attempts + 1, lease_token = nextval('llm.lease_tokens'),
           begun_at = clock_timestamp(), lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s),
           worker_id = %(worker_id)s, claim_id = %(claim_id)s, updated_at = clock_timestamp()
     WHERE j.id = ANY (ARRAY(SELECT id FROM aged UNION ALL SELECT id FROM fresh))
    RETURNING j.*
), opened AS (
    INSERT INTO llm.job_attempts (job_id, attempt, lease_token, worker_id, started_at)
    SELECT id, attempts, lease_token, worker_id, begun_at FROM taken
)
SELECT id AS job_id, lease_token AS token, kind, payload, attempts AS attempt, max_attempts,
       attempts - releases AS tries,
       extract(epoch FROM deadline_at - clock_timestamp())::float8 AS seconds_left
  FROM taken
 ORDER BY CASE WHEN queued_at >= statement_timestamp() - make_interval(secs => %(ageing_s)s) THEN priority END
          DESC NULLS FIRST, queued_at;

-- name: claimed
-- What an earlier claim took, for a claimer that never got the reply.
SELECT id AS job_id, lease_token AS token, kind, payload, attempts AS attempt, max_attempts,
       attempts - releases AS tries,
       extract(epoch FROM deadline_at - clock_timestamp())::float8 AS seconds_left
  FROM llm.jobs
 WHERE status = 'running' AND worker_id = %(worker_id)s AND claim_id = %(claim_id)s;

-- name: heartbeat
-- Renew these leases; a lease that does not come back is lost. Rows are locked in one order, whoever asks.
WITH held AS MATERIALIZED (
    SELECT j.id FROM llm.jobs j JOIN unnest(%(job_ids)s::uuid[], %(tokens)s::bigint[]) AS h (job_id, token)
        ON j.id = h.job_id AND j.lease_token = h.token
     WHERE j.status = 'running' ORDER BY j.id FOR NO KEY UPDATE OF j
)
UPDATE llm.jobs j SET lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
  FROM held WHERE j.id = held.id
RETURNING j.lease_token AS token;

-- name: complete
-- The lease's owner hands in the result.
WITH finished AS (
    UPDATE llm.jobs
       SET status = 'done', result = %(result)s, crashes = 0,
           lease_token = NULL, lease_until = NULL, worker_id = NULL, claim_id = NULL,
           finished_at = clock_timestamp(), updated_at = clock_timestamp()
     WHERE id = %(job_id)s AND lease_token = %(token)s AND status = 'running'
    RETURNING id
), closed AS (
    UPDATE llm.job_attempts a
       SET status = 'done', metrics = %(metrics)s, finished_at = clock_timestamp()
      FROM finished f WHERE a.job_id = f.id AND a.lease_token = %(token)s
)
SELECT id FROM finished;

-- name: fail
-- The lease's owner reports a failure: back to the queue while tries are left, else the end.
WITH held AS MATERIALIZED (
    SELECT id, %(retryable)s AND attempts - releases < max_attempts AS again FROM llm.jobs
     WHERE id = %(job_id)s AND lease_token = %(token)s AND status = 'running' FOR UPDATE
), ended AS (
    UPDATE llm.jobs j
       SET status = CASE WHEN again THEN 'queued' ELSE 'error' END,
           reason = CASE WHEN NOT again THEN 'failed' END,
           finished_at = CASE WHEN NOT again THEN clock_timestamp() END,
           run_at = clock_timestamp() + make_interval(secs => %(delay_s)s),
           error = %(error)s, crashes = 0, updated_at = clock_timestamp(),
           lease_token = NULL, lease_until = NULL, worker_id = NULL, claim_id = NULL
      FROM held h WHERE j.id = h.id
    RETURNING j.id, j.status
), closed AS (
    UPDATE llm.job_attempts a
       SET status = 'error', reason = 'failed', error = %(error)s, metrics = %(metrics)s,
           finished_at = clock_timestamp()
      FROM ended e WHERE a.job_id = e.id AND a.lease_token = %(token)s
)
SELECT status FROM ended;

-- name: verdict
-- Asked in its own statement after a write met no lease: the job's status, and how this token's own attempt ended.
SELECT j.status, a.status AS attempt_status, a.reason AS attempt_reason
  FROM llm.jobs j LEFT JOIN llm.job_attempts a ON a.job_id = j.id AND a.lease_token = %(token)s
 WHERE j.id = %(job_id)s;

-- name: release
-- A draining worker gives leases back; the tries do not count.
WITH held AS MATERIALIZED (
    SELECT j.id, h.token FROM llm.jobs j JOIN unnest(%(job_ids)s::uuid[], %(tokens)s::bigint[]) AS h (job_id, token)
        ON j.id = h.job_id AND j.lease_token = h.token
     WHERE j.status = 'running' ORDER BY j.id FOR UPDATE OF j
), freed AS (
    UPDATE llm.jobs j
       SET status = 'queued', releases = releases + 1, run_at = clock_timestamp(), updated_at = clock_timestamp(),
           lease_token = NULL, lease_until = NULL, worker_id = NULL, claim_id = NULL
      FROM held h WHERE j.id = h.id
    RETURNING j.id, h.token
), closed AS (
    UPDATE llm.job_attempts a
       SET status = 'error', reason = 'released', finished_at = clock_timestamp()
      FROM freed f WHERE a.job_id = f.id AND a.lease_token = f.token
)
SELECT token FROM freed;

-- name: cancel
-- End a job that is not finished; its owner's next write meets no lease.
WITH unfinished AS MATERIALIZED (
    SELECT id, lease_token FROM llm.jobs
     WHERE id = %(job_id)s AND status IN ('queued', 'running') FOR UPDATE
), ended AS (
    UPDATE llm.jobs j
       SET status = 'error', reason = 'cancelled', error = 'cancelled', finished_at = clock_timestamp(),
           updated_at = clock_timestamp(),
           lease_token = NULL, lease_until = NULL, worker_id = NULL, claim_id = NULL
      FROM unfinished u WHERE j.id = u.id
    RETURNING j.id, u.lease_token AS token
), closed AS (
    UPDATE llm.job_attempts a
       SET status = 'error', reason = 'cancelled', finished_at = clock_timestamp()
      FROM ended e WHERE a.job_id = e.id AND a.lease_token = e.token
)
SELECT id FROM ended;

-- name: reap
-- Take back leases that ended, or whose worker is gone. One that ends later than any lease may (the server's clock
-- was set back) has ended too.
WITH lost AS MATERIALIZED (
    SELECT id, lease_token, crashes + 1 >= %(max_crashes)s AS pill,
           crashes + 1 < %(max_crashes)s AND attempts - releases < max_attempts AS again
      FROM llm.jobs
     WHERE status = 'running' AND (lease_until <= statement_timestamp()
           OR lease_until > statement_timestamp() + 2 * make_interval(secs => %(longest_lease_s)s)
           OR worker_id = ANY(%(gone)s))
     LIMIT %(n)s FOR UPDATE SKIP LOCKED
), ended AS (
    UPDATE llm.jobs j
       SET status = CASE WHEN again THEN 'queued' ELSE 'error' END,
           reason = CASE WHEN pill THEN 'crashed' WHEN NOT again THEN 'lease_expired' END,
           finished_at = CASE WHEN NOT again THEN clock_timestamp() END,
           crashes = crashes + 1,
           error = CASE WHEN worker_id = ANY(%(gone)s) THEN 'worker ' || worker_id || ' is gone'
                        ELSE 'the lease of worker ' || worker_id || ' ended' END,
           run_at = clock_timestamp(), updated_at = clock_timestamp(),
           lease_token = NULL, lease_until = NULL, worker_id = NULL, claim_id = NULL
      FROM lost l WHERE j.id = l.id
    RETURNING j.id, j.status, j.error, l.lease_token AS token
), closed AS (
    UPDATE llm.job_attempts a
       SET status = 'error', reason = 'lease_expired', error = e.error, finished_at = clock_timestamp()
      FROM ended e WHERE a.job_id = e.id AND a.lease_token = e.token
)
SELECT id, status FROM ended;

-- name: expire
-- End jobs whose deadline passed, wherever they are.
WITH late AS MATERIALIZED (
    SELECT id, lease_token FROM llm.jobs
     WHERE deadline_at IS NOT NULL AND status IN ('queued', 'running') AND deadline_at <= statement_timestamp()
     ORDER BY deadline_at LIMIT %(n)s FOR UPDATE SKIP LOCKED
), ended AS (
    UPDATE llm.jobs j
       SET status = 'error', reason = 'deadline_exceeded', error = 'the deadline passed',
           finished_at = clock_timestamp(), updated_at = clock_timestamp(),
           lease_token = NULL, lease_until = NULL, worker_id = NULL, claim_id = NULL
      FROM late l WHERE j.id = l.id
    RETURNING j.id, j.status, l.lease_token AS token
), closed AS (
    UPDATE llm.job_attempts a
       SET status = 'error', reason = 'deadline_exceeded', finished_at = clock_timestamp()
      FROM ended e WHERE a.job_id = e.id AND a.lease_token = e.token
)
SELECT id, status FROM ended;

-- name: prune
-- Delete a batch of jobs that finished long ago.
DELETE FROM llm.jobs WHERE id = ANY (ARRAY(
    SELECT id FROM llm.jobs
     WHERE finished_at IS NOT NULL AND finished_at < statement_timestamp() - make_interval(days => %(days)s)
     ORDER BY finished_at LIMIT %(n)s))
RETURNING id;

-- name: status
-- Where a job stands, and nothing else of it.
SELECT status FROM llm.jobs WHERE id = %(job_id)s;

-- name: job
-- One job whole, and whether any live worker takes its kind.
SELECT j.id, j.kind, j.queue, j.payload, j.status, j.reason, j.attempts, j.max_attempts, j.priority, j.source,
       j.queued_at, j.updated_at, j.run_at, j.lease_until, j.deadline_at, j.finished_at, j.worker_id,
       j.result, j.error,
       j.status <> 'queued' OR EXISTS (
           SELECT FROM llm.live_workers w WHERE w.kinds = '{}' OR j.kind = ANY(w.kinds)) AS served
  FROM llm.jobs j WHERE j.id = %(job_id)s;

-- name: attempts
-- The tries of a job, first to last.
SELECT attempt, worker_id, status, reason, error, started_at, finished_at
  FROM llm.job_attempts WHERE job_id = %(job_id)s ORDER BY attempt;

-- name: jobs
-- A page of jobs, newest first, without payloads and results; `before` is the last id of the page before.
SELECT id, kind, queue, status, reason, attempts, max_attempts, priority, source, queued_at, updated_at, run_at,
       lease_until, deadline_at, finished_at, worker_id, error
  FROM llm.jobs
 WHERE (%(before)s::uuid IS NULL OR id < %(before)s::uuid)
   AND (%(status)s::text IS NULL OR status = %(status)s::text)
   AND (%(kind)s::text IS NULL OR kind = %(kind)s::text)
   AND (%(source)s::text IS NULL OR source = %(source)s::text)
 ORDER BY id DESC LIMIT %(n)s;

-- name: unserved
-- Kinds with waiting jobs that no live worker takes, with how many wait.
WITH queued AS MATERIALIZED (
    SELECT kind, count(*) AS waiting FROM llm.jobs WHERE status = 'queued' GROUP BY kind
)
SELECT kind, waiting FROM queued q
 WHERE NOT EXISTS (SELECT FROM llm.live_workers w WHERE w.kinds = '{}' OR q.kind = ANY(w.kinds))
 ORDER BY waiting DESC, kind LIMIT 20;
