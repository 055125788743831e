-- name: live
-- Take a lock that lasts exactly as long as this session, and return its key. Only to be run in a session of one's own.
WITH fresh AS MATERIALIZED (SELECT nextval('llm.life_keys')::integer AS key)
SELECT key, pg_advisory_lock(hashtext('llm.workers'), key) FROM fresh;

-- name: silence
-- How the server asks after this session's silent peer: every so many seconds, and so many times in vain.
SELECT set_config('tcp_keepalives_idle', %(probe_s)s::text, false),
       set_config('tcp_keepalives_interval', %(probe_s)s::text, false),
       set_config('tcp_keepalives_count', %(probes)s::text, false),
       set_config('tcp_user_timeout', %(timeout_ms)s::text, false);

-- part: life_locks
-- The keys of the locks that are held by workers that live.
SELECT l.objid FROM pg_locks l
 WHERE l.locktype = 'advisory' AND l.classid = hashtext('llm.workers')::oid AND l.objsubid = 2 AND l.granted
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: absent
-- Workers with leases that said they hold a lock while they live, and do not hold it.
SELECT w.id FROM llm.workers w
 WHERE w.stopped_at IS NULL AND w.life_key IS NOT NULL
   AND EXISTS (SELECT FROM llm.jobs j WHERE j.status = 'running' AND j.worker_id = w.id)
   AND w.life_key::oid NOT IN ({life_locks});

-- name: life_held
-- Whether somebody holds the lock by which a worker with this key says that it lives.
SELECT %(life_key)s::integer::oid IN ({life_locks}) AS held;

-- name: worker_seen
-- Say who is at work; the first time, and with every heartbeat. Returns how many others may take the same jobs.
INSERT INTO llm.workers AS w (id, name, host, pid, version, kinds, threads, running, life_key)
VALUES (%(id)s, %(name)s, %(host)s, %(pid)s, %(version)s, %(kinds)s, %(threads)s, %(running)s, %(life_key)s)
ON CONFLICT (id) DO UPDATE
   SET seen_at = clock_timestamp(), running = excluded.running, kinds = excluded.kinds,
       life_key = excluded.life_key, stopped_at = NULL
RETURNING (SELECT count(*) FROM llm.live_workers l WHERE l.id <> w.id AND l.kinds && w.kinds) AS peers;

-- name: worker_stopped
-- A worker left in good order.
UPDATE llm.workers SET stopped_at = clock_timestamp(), running = 0 WHERE id = %(id)s;

-- name: workers
-- Workers that are alive, newest first.
SELECT id, name, host, pid, version, kinds, threads, running, started_at, seen_at, stopped_at
  FROM llm.live_workers
 ORDER BY started_at DESC LIMIT 1000;

-- name: forget_workers
-- Drop the rows of workers not seen for a day.
DELETE FROM llm.workers WHERE seen_at < statement_timestamp() - interval '1 day';
