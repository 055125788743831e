-- name: backend
-- Which of the server's sessions answers.
SELECT pg_backend_pid() AS pid;

-- name: identity
-- Which database of which server this is.
SELECT oid::bigint AS database, pg_postmaster_start_time() AS started_at FROM pg_database
 WHERE datname = current_database();

-- name: send_notice
-- Wake who listens on a channel.
SELECT pg_notify(%(channel)s, %(payload)s);

-- name: database_clock
-- What time it is there.
SELECT clock_timestamp() AS at;

-- name: server_settings
-- As they are in this session, in their base units.
SELECT name, setting FROM pg_settings WHERE name = ANY(%(names)s);

-- name: rights
-- Whether other roles' sessions show us more than that they are there.
SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all;

-- name: connections
-- How many the server has, and how many of them this role may have here; -1: as many as there are.
SELECT (SELECT coalesce(sum(numbackends), 0) FROM pg_stat_database)::integer AS used,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role_limit,
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS database_limit;

-- name: standbys
-- How many follow this server.
SELECT count(*)::integer AS n FROM pg_stat_replication;

-- name: old_snapshots
-- What keeps VACUUM of this database from removing what died since.
-- Sessions and prepared transactions by their age; slots and standbys, which have none, by the transactions since.
SELECT 'backend' AS what, a.pid::text AS name, a.usename::text AS role, a.application_name AS application, a.state,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.state_change))::double precision AS age_s,
       greatest(age(a.backend_xmin), age(a.backend_xid)) AS behind
  FROM pg_stat_activity a
 WHERE a.pid <> pg_backend_pid() AND a.datname = current_database()
   AND a.backend_type NOT IN ('walsender', 'autovacuum worker')
   AND coalesce(a.xact_start, CASE WHEN a.backend_xmin IS NOT NULL THEN a.state_change END)
       < clock_timestamp() - make_interval(secs => %(older_s)s)
 UNION ALL
SELECT 'prepared transaction', p.gid, p.owner::text, NULL, NULL,
       extract(epoch FROM clock_timestamp() - p.prepared)::double precision, age(p.transaction)
  FROM pg_prepared_xacts p
 WHERE p.database = current_database() AND p.prepared < clock_timestamp() - make_interval(secs => %(older_s)s)
 UNION ALL
SELECT 'standby', a.pid::text, a.usename::text, a.application_name, a.state, NULL, age(a.backend_xmin)
  FROM pg_stat_activity a WHERE a.backend_type = 'walsender' AND age(a.backend_xmin) > %(behind)s
 UNION ALL
SELECT 'replication slot', s.slot_name::text, NULL, NULL, CASE WHEN s.active THEN 'active' ELSE 'unused' END, NULL,
       age(s.xmin)
  FROM pg_replication_slots s WHERE s.xmin IS NOT NULL AND (NOT s.active OR age(s.xmin) > %(behind)s)
 ORDER BY age_s DESC NULLS LAST;

-- name: dead_rows
-- Rows and dead rows of the tables that are written all the time, and the seconds since the dead were last removed.
SELECT t.name, pg_stat_get_live_tuples(t.id) AS live, pg_stat_get_dead_tuples(t.id) AS dead,
       extract(epoch FROM clock_timestamp() - greatest(
           pg_stat_get_last_autovacuum_time(t.id), pg_stat_get_last_vacuum_time(t.id)))::double precision AS vacuumed_s
  FROM (VALUES ('jobs', to_regclass('llm.jobs')), ('job_attempts', to_regclass('llm.job_attempts')),
               ('workers', to_regclass('llm.workers')), ('limits', to_regclass('llm.limits'))) AS t (name, id)
 WHERE t.id IS NOT NULL;

-- name: notices
-- How full the server's queue of notices is, 0 to 1.
SELECT pg_notification_queue_usage() AS used;

-- name: stalled_listeners
-- Sessions that ask for nothing and do not take what they are sent.
SELECT a.pid, a.application_name AS application, host(a.client_addr) AS address,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.state_change))::double precision AS age_s
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.state = 'idle' AND a.wait_event = 'ClientWrite'
   AND coalesce(a.xact_start, a.state_change) < clock_timestamp() - make_interval(secs => %(older_s)s);

-- name: event_days
-- How many days from today the partitions of the streams reach; NULL without any.
SELECT max(to_date(right(c.relname, 8), 'YYYYMMDD')) - (statement_timestamp() AT TIME ZONE 'UTC')::date AS ahead
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = 'llm.job_events'::regclass AND c.relname ~ '^job_events_\d{8}$';

-- name: crashed
-- Jobs that were given up because their workers died of them, up to a thousand, and the newest.
SELECT count(*) AS n, (array_agg(id ORDER BY id DESC))[1] AS newest
  FROM (SELECT id FROM llm.jobs WHERE status = 'error' AND reason = 'crashed' ORDER BY id DESC LIMIT 1000) AS c;

-- name: longest_waiting
-- The job that has waited longest for a free thread of a worker that takes its kind, and how long (seconds).
SELECT j.id, j.kind,
       extract(epoch FROM statement_timestamp() - greatest(j.queued_at, j.run_at))::double precision AS waited_s
  FROM llm.jobs j
 WHERE j.status = 'queued' AND NOT j.blocked
   AND greatest(j.queued_at, j.run_at) < statement_timestamp() - make_interval(secs => %(older_s)s)
   AND j.queued_at < statement_timestamp() - make_interval(secs => %(older_s)s)
   AND EXISTS (SELECT FROM llm.live_workers w WHERE w.kinds = '{}' OR j.kind = ANY(w.kinds))
   AND NOT EXISTS (SELECT FROM llm.paused_queues p WHERE p.name = j.queue)
 ORDER BY j.queued_at LIMIT 1;
