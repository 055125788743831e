-- Workers that come by a door, in any language: the leases are those of `jobs.sql`.

-- name: claim_any
-- Lease one job of whatever kind, in the order of `turn`. Kinds whose limit is reached are stepped over in the index: it
-- is walked between them, for it knows of ranges and of nothing that is left out.
-- `passed`: jobs of other kinds were looked at and left; `wait_s`: when one that had to be left becomes due.
WITH room AS MATERIALIZED (
    SELECT kind, free, wait_s FROM llm.room(ARRAY(SELECT kind FROM llm.limits))
), shut AS MATERIALIZED (
    SELECT kind FROM room WHERE free <= 0
), gaps AS MATERIALIZED (
    SELECT lag(kind, 1, '') OVER (ORDER BY kind) AS above, kind AS below FROM shut
), aged AS MATERIALIZED (
    SELECT * FROM (
        SELECT j.* FROM gaps g, LATERAL (
            SELECT id, queued_at FROM llm.jobs
             WHERE status = 'queued' AND NOT blocked AND kind > g.above AND kind < g.below
               AND queued_at < statement_timestamp() - make_interval(secs => %(ageing_s)s)
               AND run_at <= statement_timestamp()
               AND queue NOT IN (SELECT name FROM llm.paused_queues)
               AND (deadline_at IS NULL OR deadline_at > statement_timestamp())
             ORDER BY queued_at LIMIT 1 FOR UPDATE SKIP LOCKED) AS j
        UNION ALL
        SELECT * FROM (
            SELECT id, queued_at FROM llm.jobs
             WHERE status = 'queued' AND NOT blocked AND kind > coalesce((SELECT max(kind) FROM shut), '')
               AND queued_at < statement_timestamp() - make_interval(secs => %(ageing_s)s)
               AND run_at <= statement_timestamp()
               AND queue NOT IN (SELECT name FROM llm.paused_queues)
               AND (deadline_at IS NULL OR deadline_at > statement_timestamp())
             ORDER BY queued_at LIMIT 1 FOR UPDATE SKIP LOCKED) AS above_them) AS found
), fresh AS MATERIALIZED (
    SELECT * FROM (
        SELECT j.* FROM gaps g, LATERAL (
            SELECT id, priority, queued_at FROM llm.jobs
             WHERE status = 'queued' AND NOT blocked AND kind > g.above AND kind < g.below
               AND queued_at >= statement_timestamp() - make_interval(secs => %(ageing_s)s)
               AND run_at <= statement_timestamp()
               AND queue NOT IN (SELECT name FROM llm.paused_queues)
               AND (deadline_at IS NULL OR deadline_at > statement_timestamp())
             ORDER BY priority DESC, queued_at LIMIT (SELECT (count(*) = 0)::integer FROM aged)
               FOR UPDATE SKIP LOCKED) AS j
        UNION ALL
        SELECT * FROM (
            SELECT id, priority, queued_at FROM llm.jobs
             WHERE status = 'queued' AND NOT blocked AND kind > coalesce((SELECT max(kind) FROM shut), '')
               AND queued_at >= statement_timestamp() - make_interval(secs => %(ageing_s)s)
               AND run_at <= statement_timestamp()
               AND queue NOT IN (SELECT name FROM llm.paused_queues)
               AND (deadline_at IS NULL OR deadline_at > statement_timestamp())
             ORDER BY priority DESC, queued_at LIMIT (SELECT (count(*) = 0)::integer FROM aged)
               FOR UPDATE SKIP LOCKED) AS above_them) AS found
), chosen AS MATERIALIZED (
    SELECT id FROM (SELECT id, NULL AS rank, queued_at FROM aged
                    UNION ALL SELECT id, priority, queued_at FROM fresh) AS u
     ORDER BY rank DESC NULLS FIRST, queued_at LIMIT 1
), taken AS (
    UPDATE llm.jobs j
       SET status = 'running', attempts = j.attempts + 1,
           lease_token = nextval('llm.lease_tokens') * 65536 + floor(random() * 65536)::bigint,  -- as in `turn`
           begun_at = clock_timestamp(), lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s),
           worker_id = %(worker_id)s, claim_id = %(claim_id)s, updated_at = clock_timestamp()
     WHERE j.id = ANY (ARRAY(SELECT id FROM chosen))
    RETURNING j.*
), spent AS (
    UPDATE llm.limits l
       SET next_at = llm.rate_from(l.next_at, l.burst, l.per_s / l.rate) + make_interval(secs => l.per_s / l.rate)
      FROM taken t WHERE l.kind = t.kind AND l.rate IS NOT NULL
)
SELECT t.id, t.lease_token, t.kind, t.payload, t.attempts, t.max_attempts, t.attempts - t.releases AS tries,
       extract(epoch FROM t.deadline_at - clock_timestamp())::float8 AS seconds_left,
       (SELECT count(*) FROM aged) + (SELECT count(*) FROM fresh) > 1 AS passed,
       CASE WHEN t.id IS NULL THEN least(
           (SELECT min(wait_s) FROM room WHERE free <= 0),
           (SELECT extract(epoch FROM min(run_at) - clock_timestamp())::float8 FROM llm.jobs
             WHERE status = 'queued' AND NOT blocked AND run_at > queued_at
               AND run_at > statement_timestamp())) END AS wait_s
  FROM (SELECT) AS always LEFT JOIN taken t ON true;

-- name: standing
-- How a job stands to a worker.
-- Told are its lease now, and how an attempt of that worker's ended: that of the token, or
-- without one its newest.
SELECT j.status, j.kind, j.worker_id, j.lease_token, j.attempts - j.releases AS tries,
       extract(epoch FROM j.lease_until - clock_timestamp())::float8 AS lease_left_s,
       a.status AS attempt_status, a.reason AS attempt_reason
  FROM llm.jobs j LEFT JOIN LATERAL (
           SELECT t.status, t.reason FROM llm.job_attempts t
            WHERE t.job_id = j.id AND t.worker_id = %(worker_id)s
              AND (%(token)s::bigint IS NULL OR t.lease_token = %(token)s::bigint)
            ORDER BY t.attempt DESC LIMIT 1) a ON true
 WHERE j.id = %(job_id)s;

-- name: stream_size
-- How much of a stream the running attempt has: the number of the last event, and the bytes of all data.
SELECT e.last, e.bytes
  FROM llm.jobs j, LATERAL (
           SELECT coalesce(max(v.seq), 0) AS last, coalesce(sum(octet_length(v.data)), 0)::bigint AS bytes
             FROM llm.job_events v
            WHERE v.job_id = j.id AND v.attempt = j.attempts AND v.begun_at = j.begun_at) e
 WHERE j.id = %(job_id)s AND j.lease_token = %(token)s;

-- name: remote_seen
-- A worker that comes by a door was here, and asks for these kinds. It holds no lock: that it lives is seen by its calls.
-- One that holds a lock is another sort, and is left alone.
WITH machine AS (
    UPDATE llm.devices SET last_seen = clock_timestamp() WHERE id = %(id)s RETURNING name, host
)
INSERT INTO llm.workers AS w (id, name, host, kinds, running)
SELECT %(id)s, coalesce(m.name, ''), coalesce(m.host, ''), %(kinds)s::text[], (
           SELECT count(*) FROM llm.jobs WHERE status = 'running' AND worker_id = %(id)s)
  FROM (SELECT) AS always LEFT JOIN machine m ON true
ON CONFLICT (id) DO UPDATE
   SET seen_at = clock_timestamp(), running = excluded.running, kinds = excluded.kinds, name = excluded.name,
       host = excluded.host, stopped_at = NULL
 WHERE w.life_key IS NULL;

-- name: remote_heard
-- A worker that comes by a door is at work on what it claimed.
WITH machine AS (
    UPDATE llm.devices SET last_seen = clock_timestamp() WHERE id = %(id)s
)
UPDATE llm.workers SET seen_at = clock_timestamp(), stopped_at = NULL, running = (
           SELECT count(*) FROM llm.jobs WHERE status = 'running' AND worker_id = %(id)s)
 WHERE id = %(id)s AND life_key IS NULL;
