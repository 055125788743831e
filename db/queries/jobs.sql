-- name: submit
-- Add a batch of jobs, or find those their ids or keys already named; the ids come in the batch's order.
SELECT llm.add_jobs(%(batch)s::json) AS ids;

-- name: submit_one
-- Add one job that waits for no other; no row: its id or key named one before, and `submit` says which. It fills in the
-- columns that `llm.write_jobs` does, which takes 0.04 ms longer for a batch of one.
INSERT INTO llm.jobs (id, kind, payload, priority, source, max_attempts, deadline_at, queued_at, updated_at, run_at,
                      queue, idempotency_key, key_until, result_ttl_s, principal)
SELECT one.id, one.kind, one.payload, one.priority, one.source, one.max_attempts, one.deadline_at,
       statement_timestamp(), statement_timestamp(), statement_timestamp() + make_interval(secs => one.delay_s),
       one.queue, one.key, statement_timestamp() + make_interval(secs => one.key_s), one.result_ttl_s, one.principal
  FROM json_to_record(%(job)s::json) AS one (
           id uuid, kind text, payload text, priority integer, source text, max_attempts integer,
           deadline_at timestamptz, delay_s double precision, queue text, key text, key_s double precision,
           result_ttl_s double precision, principal text)
    ON CONFLICT DO NOTHING
RETURNING id;

-- part: hand_in
-- Results become those of their jobs, under the leases they were worked out in.
held AS MATERIALIZED (
    -- Rows are locked in one order, whoever asks.
    SELECT j.id, r.token, r.result, r.metrics
      FROM llm.jobs j JOIN json_to_recordset(%(results)s::json) AS r (job_id uuid, token bigint, result text, metrics text)
        ON j.id = r.job_id AND j.lease_token = r.token
     WHERE j.status = 'running' ORDER BY j.id FOR UPDATE OF j
), finished AS (
    UPDATE llm.jobs j
       SET status = 'done', result = h.result, crashes = 0,
           result_until = clock_timestamp() + make_interval(secs => result_ttl_s),
           lease_token = NULL, lease_until = NULL, claim_id = NULL,
           finished_at = clock_timestamp(), updated_at = clock_timestamp()
      FROM held h WHERE j.id = h.id
    RETURNING j.id, j.kind, h.token, h.metrics, j.attempts, j.begun_at, j.worker_id
), closed AS (
    INSERT INTO llm.job_attempts (job_id, attempt, lease_token, worker_id, status, metrics, started_at, finished_at)
    SELECT id, attempts, token, worker_id, 'done', metrics, begun_at, clock_timestamp() FROM finished
), last_words AS (
    -- What a job said last is there when it says done; a lost reply may bring it twice.
    INSERT INTO llm.job_events (job_id, attempt, seq, begun_at, type, data)
    SELECT f.id, f.attempts, e.seq, f.begun_at, e.type, e.data
      FROM json_to_recordset(%(events)s::json) AS e (token bigint, seq integer, type text, data text)
      JOIN finished f USING (token)
    ON CONFLICT DO NOTHING
)

-- name: complete
-- Hand in the results of finished leases: what a worker does that knows of nothing to lease.
WITH {hand_in}
SELECT count(*) AS finished, llm.followed(array_agg(id)) AS followed FROM finished HAVING count(*) > 0;

-- part: lease
-- Up to n waiting jobs are leased, and what the worker wants to know is told.
-- Order: past the ageing bound first, then the highest priority, then the oldest. Jobs of kinds that are not `short`
-- are taken for the `free` threads only, and beyond those no more than 32 MiB of payloads. The four `from`/`to` bounds let
-- a busy claimer go on where it was, past the rows that are finished and not yet vacuumed away.
room AS MATERIALIZED (
    SELECT kind, free, wait_s FROM llm.room(%(kinds)s)
     WHERE EXISTS (SELECT FROM llm.limits WHERE kind = ANY(%(kinds)s))  -- to ask costs more than to look whether
), open AS MATERIALIZED (
    SELECT ARRAY(SELECT unnest(%(kinds)s::text[]) EXCEPT SELECT kind FROM room WHERE free <= 0) AS kinds
), aged AS MATERIALIZED (
    -- The count has the results written first: who leases before it lets go can lock up with another who does the same.
    SELECT id, kind, priority, queued_at, octet_length(payload) AS bytes FROM llm.jobs
     WHERE status = 'queued' AND NOT blocked AND kind = ANY((SELECT kinds FROM open)::text[])
       AND queued_at >= %(aged_from)s::timestamptz
       AND queued_at < statement_timestamp() - make_interval(secs => %(ageing_s)s)
       AND run_at <= statement_timestamp()
       AND queue NOT IN (SELECT name FROM llm.paused_queues)
       AND (deadline_at IS NULL OR deadline_at > statement_timestamp())
     ORDER BY queued_at LIMIT (SELECT %(n)s + 0 * count(*) FROM finished) FOR UPDATE SKIP LOCKED
), fresh AS MATERIALIZED (
    SELECT id, kind, priority, queued_at, octet_length(payload) AS bytes FROM llm.jobs
     WHERE status = 'queued' AND NOT blocked AND kind = ANY((SELECT kinds FROM open)::text[])
       AND priority BETWEEN %(priority_to)s AND %(priority_from)s
       AND queued_at >= greatest(
           %(fresh_from)s::timestamptz, statement_timestamp() - make_interval(secs => %(ageing_s)s))
       AND run_at <= statement_timestamp()
       AND queue NOT IN (SELECT name FROM llm.paused_queues)
       AND (deadline_at IS NULL OR deadline_at > statement_timestamp())
     ORDER BY priority DESC, queued_at LIMIT (SELECT %(n)s - count(*) FROM aged) FOR UPDATE SKIP LOCKED
), ranked AS (
    SELECT id, kind, place, kind = ANY(%(short)s) AS short,
           row_number() OVER (PARTITION BY kind ORDER BY place) AS nth_of_kind,
           count(*) FILTER (WHERE kind <> ALL(%(short)s)) OVER (ORDER BY place) AS nth_long,
           sum(bytes) OVER (ORDER BY place) AS bytes
      FROM (SELECT id, kind, bytes, row_number() OVER (ORDER BY rank DESC NULLS FIRST, queued_at) AS place
              FROM (SELECT id, kind, bytes, NULL AS rank, queued_at FROM aged
                    UNION ALL SELECT id, kind, bytes, priority, queued_at FROM fresh) AS u) AS p
), chosen AS MATERIALIZED (
    SELECT r.id, r.place FROM ranked r LEFT JOIN room USING (kind)
     WHERE (r.short OR r.nth_long <= %(free)s) AND (r.place <= %(free)s OR r.bytes <= 32 * 1048576)
       AND (room.free IS NULL OR r.nth_of_kind <= room.free)
), taken AS (
    -- By an array: a join would be planned for a tenth of the table, which is what a LIMIT not known beforehand counts as.
    UPDATE llm.jobs j
       -- A server that was promoted may count the same numbers again: the lower digits are nobody's to foresee.
       SET status = 'running', attempts = j.attempts + 1,
           lease_token = nextval('llm.lease_tokens') * 65536 + floor(random() * 65536)::bigint,
           begun_at = clock_timestamp(), lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s),
           worker_id = %(worker_id)s, claim_id = %(claim_id)s, updated_at = clock_timestamp()
     WHERE j.id = ANY (ARRAY(SELECT id FROM chosen))
    RETURNING j.*
), spent AS (
    UPDATE llm.limits l
       SET next_at = llm.rate_from(l.next_at, l.burst, l.per_s / l.rate) + t.n * make_interval(secs => l.per_s / l.rate)
      FROM (SELECT kind, count(*) AS n FROM taken GROUP BY kind) t WHERE l.kind = t.kind AND l.rate IS NOT NULL
)
SELECT j.id, j.lease_token, j.kind, j.payload, j.attempts, j.max_attempts, j.attempts - j.releases AS tries,
       extract(epoch FROM j.deadline_at - clock_timestamp())::float8 AS seconds_left,
       CASE WHEN c.place IS NOT DISTINCT FROM (SELECT min(place) FROM chosen) THEN json_build_object(
           'finished', (SELECT count(*) FROM finished),
           'followed', CASE WHEN EXISTS (SELECT FROM finished) THEN llm.followed(ARRAY(SELECT id FROM finished)) END,
           'limited', EXISTS (SELECT FROM room),
           'found', (SELECT count(*) FROM ranked),
           'left', (SELECT count(*) FROM ranked r LEFT JOIN room USING (kind)
                     WHERE room.free IS NULL OR r.nth_of_kind <= room.free) - (SELECT count(*) FROM chosen),
           'freed', EXISTS (SELECT FROM finished JOIN room USING (kind) WHERE free > (
               SELECT count(*) FROM taken t WHERE t.kind = room.kind) OR (free = 0 AND wait_s IS NOT NULL)),
           'last_aged', (SELECT max(queued_at) FROM aged),
           'last_fresh', (SELECT max(queued_at) FROM fresh),
           'highest', (SELECT max(priority) FROM fresh),
           'lowest', (SELECT min(priority) FROM fresh),
           'wait_s', CASE WHEN (SELECT count(*) FROM chosen) < %(n)s THEN least(
               (SELECT min(wait_s) FROM room
                 WHERE free <= 0 OR EXISTS (SELECT FROM ranked r WHERE r.kind = room.kind AND r.nth_of_kind > free)),
               (SELECT extract(epoch FROM min(run_at) - clock_timestamp()) FROM llm.jobs
                 WHERE status = 'queued' AND NOT blocked AND run_at > queued_at AND run_at > statement_timestamp()
                   AND kind = ANY(%(kinds)s))) END) END AS told
  FROM (SELECT) AS always LEFT JOIN (taken j JOIN chosen c USING (id)) ON true
 ORDER BY c.place

-- name: claim
-- Lease up to n waiting jobs: the turn of a worker with nothing to hand in.
WITH finished AS (SELECT NULL::uuid AS id, NULL::text AS kind WHERE false), {lease};

-- name: turn
-- Hand in the results of finished leases and lease up to n waiting jobs: a worker's whole turn is one commit.
WITH {hand_in}, {lease};

-- name: claimed
-- What an earlier claim took, for a claimer that never got the reply.
SELECT id, lease_token, kind, payload, attempts, max_attempts, attempts - releases AS tries,
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

-- name: fail
-- The lease's owner reports a failure: back to the queue while tries are left, else the end.
WITH held AS MATERIALIZED (
    SELECT id, lease_token AS token, worker_id AS worker,
           %(retryable)s AND attempts - releases < max_attempts AS again FROM llm.jobs
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
    RETURNING j.id, j.status, j.attempts, j.begun_at, h.token, h.worker
), closed AS (
    INSERT INTO llm.job_attempts (job_id, attempt, lease_token, worker_id, status, reason, error, metrics,
                                  started_at, finished_at)
    SELECT id, attempts, token, worker, 'error', 'failed', %(error)s, %(metrics)s, begun_at, clock_timestamp()
      FROM ended
)
SELECT status FROM ended;

-- name: verdicts
-- Asked in its own statement after a write met no lease: the jobs' statuses, and how each token's own attempt ended.
SELECT w.job_id, w.token, j.status, a.status AS attempt_status, a.reason AS attempt_reason
  FROM unnest(%(job_ids)s::uuid[], %(tokens)s::bigint[]) AS w (job_id, token)
  LEFT JOIN llm.jobs j ON j.id = w.job_id
  LEFT JOIN llm.job_attempts a ON a.job_id = w.job_id AND a.lease_token = w.token;

-- name: release
-- A draining worker gives leases back; the tries do not count.
WITH held AS MATERIALIZED (
    SELECT j.id, h.token, j.worker_id AS worker FROM llm.jobs j JOIN unnest(%(job_ids)s::uuid[], %(tokens)s::bigint[]) AS h (job_id, token)
        ON j.id = h.job_id AND j.lease_token = h.token
     WHERE j.status = 'running' ORDER BY j.id FOR UPDATE OF j
), freed AS (
    UPDATE llm.jobs j
       SET status = 'queued', releases = releases + 1, run_at = clock_timestamp(), updated_at = clock_timestamp(),
           lease_token = NULL, lease_until = NULL, worker_id = NULL, claim_id = NULL
      FROM held h WHERE j.id = h.id
    RETURNING j.id, h.token, h.worker, j.attempts, j.begun_at
), closed AS (
    INSERT INTO llm.job_attempts (job_id, attempt, lease_token, worker_id, status, reason, error, metrics,
                                  started_at, finished_at)
    SELECT id, attempts, token, worker, 'error', 'released', NULL, '{}', begun_at, clock_timestamp()
      FROM freed
)
SELECT token FROM freed;

-- name: cancel
-- End a job that is not finished; its owner's next write meets no lease.
WITH unfinished AS MATERIALIZED (
    SELECT id, lease_token AS token, worker_id AS worker FROM llm.jobs
     WHERE id = %(job_id)s AND status IN ('queued', 'running') FOR UPDATE
), ended AS (
    UPDATE llm.jobs j
       SET status = 'error', reason = 'cancelled', error = 'cancelled', finished_at = clock_timestamp(),
           updated_at = clock_timestamp(),
           lease_token = NULL, lease_until = NULL, worker_id = NULL, claim_id = NULL
      FROM unfinished u WHERE j.id = u.id
    RETURNING j.id, u.token, u.worker, j.attempts, j.begun_at
), closed AS (
    INSERT INTO llm.job_attempts (job_id, attempt, lease_token, worker_id, status, reason, error, metrics,
                                  started_at, finished_at)
    SELECT id, attempts, token, worker, 'error', 'cancelled', NULL, '{}', begun_at, clock_timestamp()
      FROM ended WHERE token IS NOT NULL
)
SELECT id FROM ended;

-- name: reap
-- Take back leases that ended, or whose worker is gone. One that ends later than any lease may (the server's clock
-- was set back) has ended too; that of a worker just missing waits, for it may be on its way back. A job only counts as
-- one that ends workers when its worker does not seem to live, nor left in good order: a server that was away ends
-- leases too.
WITH lost AS MATERIALIZED (
    SELECT j.id, j.lease_token AS token, j.worker_id AS worker, c.crash,
           c.crash AND j.crashes + 1 >= %(max_crashes)s AS pill, j.attempts - j.releases < j.max_attempts AS more
      FROM llm.jobs j CROSS JOIN LATERAL (
               SELECT NOT EXISTS (
                   SELECT FROM llm.workers w
                    WHERE w.id = j.worker_id AND (w.seen_at > j.lease_until OR w.stopped_at IS NOT NULL
                                                  OR w.life_key::oid IN ({life_locks}))) AS crash) c
     WHERE j.status = 'running' AND (j.worker_id = ANY(%(gone)s)
           OR j.worker_id <> ALL(%(missing)s) AND (j.lease_until <= statement_timestamp()
               OR j.lease_until > statement_timestamp() + 2 * make_interval(secs => %(longest_lease_s)s)))
     LIMIT %(n)s FOR UPDATE OF j SKIP LOCKED
), ended AS (
    UPDATE llm.jobs j
       SET status = CASE WHEN more AND NOT pill THEN 'queued' ELSE 'error' END,
           reason = CASE WHEN pill THEN 'crashed' WHEN NOT more THEN 'lease_expired' END,
           finished_at = CASE WHEN pill OR NOT more THEN clock_timestamp() END,
           crashes = crashes + crash::integer,
           error = CASE WHEN worker_id = ANY(%(gone)s) THEN 'worker ' || worker_id || ' is gone'
                        ELSE 'the lease of worker ' || worker_id || ' ended' END,
           run_at = clock_timestamp(), updated_at = clock_timestamp(),
           lease_token = NULL, lease_until = NULL, worker_id = NULL, claim_id = NULL
      FROM lost l WHERE j.id = l.id
    RETURNING j.id, j.status, j.error, l.token, l.worker, j.attempts, j.begun_at
), closed AS (
    INSERT INTO llm.job_attempts (job_id, attempt, lease_token, worker_id, status, reason, error, metrics,
                                  started_at, finished_at)
    SELECT id, attempts, token, worker, 'error', 'lease_expired', error, '{}', begun_at, clock_timestamp()
      FROM ended
)
SELECT id, status FROM ended;

-- name: expire
-- End jobs whose deadline passed, wherever they are.
WITH late AS MATERIALIZED (
    SELECT id, lease_token AS token, worker_id AS worker FROM llm.jobs
     WHERE deadline_at IS NOT NULL AND status IN ('queued', 'running') AND deadline_at <= statement_timestamp()
     ORDER BY deadline_at LIMIT %(n)s FOR UPDATE SKIP LOCKED
), ended AS (
    UPDATE llm.jobs j
       SET status = 'error', reason = 'deadline_exceeded', error = 'the deadline passed',
           finished_at = clock_timestamp(), updated_at = clock_timestamp(),
           lease_token = NULL, lease_until = NULL, worker_id = NULL, claim_id = NULL
      FROM late l WHERE j.id = l.id
    RETURNING j.id, j.status, l.token, l.worker, j.attempts, j.begun_at
), closed AS (
    INSERT INTO llm.job_attempts (job_id, attempt, lease_token, worker_id, status, reason, error, metrics,
                                  started_at, finished_at)
    SELECT id, attempts, token, worker, 'error', 'deadline_exceeded', NULL, '{}', begun_at, clock_timestamp()
      FROM ended WHERE token IS NOT NULL
)
SELECT id, status FROM ended;

-- name: prune
-- Delete a batch of jobs that finished long ago, and their attempts. What an unfinished job needs is kept for it.
WITH old AS MATERIALIZED (
    SELECT o.id FROM llm.jobs o
     WHERE o.finished_at IS NOT NULL AND o.finished_at < statement_timestamp() - make_interval(days => %(days)s)
       AND (SELECT true FROM llm.job_needs n
             WHERE n.needs_id = o.id
               AND (SELECT j.status FROM llm.jobs j WHERE j.id = n.job_id) IN ('queued', 'running') LIMIT 1) IS NULL
     ORDER BY o.finished_at LIMIT %(n)s FOR UPDATE OF o SKIP LOCKED
), told AS (
    DELETE FROM llm.job_attempts WHERE job_id = ANY (ARRAY(SELECT id FROM old))
), needs AS (
    DELETE FROM llm.job_needs WHERE job_id = ANY (ARRAY(SELECT id FROM old))
)
DELETE FROM llm.jobs WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING id;

-- name: status
-- Where a job stands, and nothing else of it; no row for one that is not this principal's (NULL: whoever's).
SELECT status FROM llm.jobs
 WHERE id = %(job_id)s AND (%(principal)s::text IS NULL OR principal = %(principal)s::text);

-- name: job
-- One job whole, and whether any live worker takes its kind; of a principal as in `status`.
SELECT j.id, j.kind, j.queue, j.payload, j.status, j.reason, j.attempts, j.max_attempts, j.priority, j.source,
       j.queued_at, j.updated_at, j.run_at, j.lease_until, j.deadline_at, j.finished_at,
       CASE WHEN j.status = 'running' THEN j.worker_id END AS worker_id,
       CASE WHEN j.result_until IS NULL OR j.result_until > statement_timestamp() THEN j.result END AS result, j.error,
       j.status <> 'queued' OR EXISTS (
           SELECT FROM llm.live_workers w WHERE w.kinds = '{}' OR j.kind = ANY(w.kinds)) AS served
  FROM llm.jobs j
 WHERE j.id = %(job_id)s AND (%(principal)s::text IS NULL OR j.principal = %(principal)s::text);

-- name: attempts
-- The tries of a job, first to last; the one in progress is the job's own row.
SELECT attempt, worker_id, status, reason, error, started_at, finished_at
  FROM llm.job_attempts WHERE job_id = %(job_id)s
 UNION ALL
SELECT attempts, worker_id, 'running', NULL, NULL, begun_at, NULL
  FROM llm.jobs WHERE id = %(job_id)s AND status = 'running'
 ORDER BY attempt;

-- name: jobs
-- A page of jobs, newest first, without payloads and results; `before` is the last id of the page before.
SELECT id, kind, queue, status, reason, attempts, max_attempts, priority, source, queued_at, updated_at, run_at,
       lease_until, deadline_at, finished_at, CASE WHEN status = 'running' THEN worker_id END AS worker_id, error
  FROM llm.jobs
 WHERE (%(before)s::uuid IS NULL OR id < %(before)s::uuid)
   AND (%(status)s::text IS NULL OR status = %(status)s::text)
   AND (%(kind)s::text IS NULL OR kind = %(kind)s::text)
   AND (%(source)s::text IS NULL OR source = %(source)s::text)
   AND (%(principal)s::text IS NULL OR principal = %(principal)s::text)
 ORDER BY id DESC LIMIT %(n)s;

-- name: unserved
-- Kinds with waiting jobs that no live worker takes, with how many wait.
WITH queued AS MATERIALIZED (
    SELECT kind, count(*) AS waiting FROM llm.jobs WHERE status = 'queued' GROUP BY kind
)
SELECT kind, waiting FROM queued q
 WHERE NOT EXISTS (SELECT FROM llm.live_workers w WHERE w.kinds = '{}' OR q.kind = ANY(w.kinds))
 ORDER BY waiting DESC, kind LIMIT 20;

-- name: retry
-- Queue jobs that ended in error again, with fresh tries.
-- They are those of the ids given, or of this reason and kind (NULL: any) that ended by `until`. Their attempts and
-- events stay. A deadline that passed is lifted, for it would end them at once; queued_at is new, else old ones would all
-- go before whatever waits now. What waited for a job that failed is left out.
WITH wanted AS MATERIALIZED (
    SELECT id FROM llm.jobs
     WHERE status = 'error' AND reason <> 'dependency_failed'
       AND (%(job_ids)s::uuid[] IS NULL OR id = ANY(%(job_ids)s::uuid[]))
       AND (%(reason)s::text IS NULL OR reason = %(reason)s::text)
       AND (%(kind)s::text IS NULL OR kind = %(kind)s::text)
       AND (%(until)s::timestamptz IS NULL OR finished_at <= %(until)s::timestamptz)
     ORDER BY id LIMIT %(n)s FOR UPDATE SKIP LOCKED
), queued AS (
    UPDATE llm.jobs j
       SET status = 'queued', reason = NULL, error = NULL, finished_at = NULL, releases = j.attempts, crashes = 0,
           queued_at = clock_timestamp(), run_at = clock_timestamp(), updated_at = clock_timestamp(),
           deadline_at = CASE WHEN j.deadline_at > clock_timestamp() THEN j.deadline_at END
      FROM wanted w WHERE j.id = w.id
    RETURNING j.id, j.blocked
), waiting AS (
    -- One that was ended while it waited for others waits for them again.
    INSERT INTO llm.blocked_jobs (job_id) SELECT id FROM queued WHERE blocked ON CONFLICT DO NOTHING
)
SELECT id FROM queued;

-- name: requeue
-- Take running jobs from their workers and queue them again; the tries do not count. Rows are locked in one order,
-- whoever asks.
WITH held AS MATERIALIZED (
    SELECT id, lease_token AS token, worker_id AS worker FROM llm.jobs
     WHERE id = ANY(%(job_ids)s::uuid[]) AND status = 'running' ORDER BY id FOR UPDATE
), freed AS (
    UPDATE llm.jobs j
       SET status = 'queued', releases = releases + 1, run_at = clock_timestamp(), updated_at = clock_timestamp(),
           lease_token = NULL, lease_until = NULL, worker_id = NULL, claim_id = NULL
      FROM held h WHERE j.id = h.id
    RETURNING j.id, h.token, h.worker, j.attempts, j.begun_at
), closed AS (
    INSERT INTO llm.job_attempts (job_id, attempt, lease_token, worker_id, status, reason, error, metrics,
                                  started_at, finished_at)
    SELECT id, attempts, token, worker, 'error', 'released', 'taken back by an operator', '{}', begun_at,
           clock_timestamp()
      FROM freed
)
SELECT id FROM freed;

-- name: prune_some
-- As `prune`, of one status or of both (NULL).
WITH old AS MATERIALIZED (
    SELECT o.id FROM llm.jobs o
     WHERE o.finished_at IS NOT NULL AND o.finished_at < statement_timestamp() - make_interval(days => %(days)s)
       AND (%(status)s::text IS NULL OR o.status = %(status)s::text)
       AND (SELECT true FROM llm.job_needs n
             WHERE n.needs_id = o.id
               AND (SELECT j.status FROM llm.jobs j WHERE j.id = n.job_id) IN ('queued', 'running') LIMIT 1) IS NULL
     ORDER BY o.finished_at LIMIT %(n)s FOR UPDATE OF o SKIP LOCKED
), told AS (
    DELETE FROM llm.job_attempts WHERE job_id = ANY (ARRAY(SELECT id FROM old))
), needs AS (
    DELETE FROM llm.job_needs WHERE job_id = ANY (ARRAY(SELECT id FROM old))
)
DELETE FROM llm.jobs WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING id;

-- name: prunable
-- How many jobs `prune_some` would delete.
SELECT count(*) AS n FROM llm.jobs o
 WHERE o.finished_at IS NOT NULL AND o.finished_at < statement_timestamp() - make_interval(days => %(days)s)
   AND (%(status)s::text IS NULL OR o.status = %(status)s::text)
   AND (SELECT true FROM llm.job_needs n
         WHERE n.needs_id = o.id
           AND (SELECT j.status FROM llm.jobs j WHERE j.id = n.job_id) IN ('queued', 'running') LIMIT 1) IS NULL;

-- name: expire_results
-- Forget a batch of results whose time is over. A job that is done has a result, if only null: without one, it expired.
WITH old AS MATERIALIZED (
    SELECT id FROM llm.jobs
     WHERE result_until IS NOT NULL AND result_until <= statement_timestamp()
     ORDER BY result_until LIMIT %(n)s FOR UPDATE SKIP LOCKED
)
UPDATE llm.jobs j SET result = NULL, result_until = NULL
 WHERE j.id = ANY (ARRAY(SELECT id FROM old))
RETURNING j.id;
