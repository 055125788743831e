-- name: append
-- Add events to the running attempt; no row back: the lease is lost. Repeating a batch changes nothing.
-- FOR SHARE: the lease cannot end between the look and the write.
WITH lease AS MATERIALIZED (
    SELECT id, attempts, begun_at FROM llm.jobs
     WHERE id = %(job_id)s AND lease_token = %(token)s AND status = 'running' FOR SHARE
), added AS (
    INSERT INTO llm.job_events (job_id, attempt, seq, begun_at, type, data)
    SELECT lease.id, lease.attempts, e.seq, lease.begun_at, e.type, e.data
      FROM lease, unnest(%(seqs)s::integer[], %(types)s::text[], %(data)s::text[]) AS e (seq, type, data)
    ON CONFLICT DO NOTHING
)
SELECT id FROM lease;

-- name: append_many
-- The same for many leases in one statement; a token that does not come back has no lease any more.
-- Rows are locked in one order, whoever asks.
WITH lease AS MATERIALIZED (
    SELECT j.id, j.lease_token AS token, j.attempts, j.begun_at
      FROM llm.jobs j JOIN unnest(%(job_ids)s::uuid[], %(tokens)s::bigint[]) AS h (job_id, token)
        ON j.id = h.job_id AND j.lease_token = h.token
     WHERE j.status = 'running' ORDER BY j.id FOR SHARE OF j
), added AS (
    INSERT INTO llm.job_events (job_id, attempt, seq, begun_at, type, data)
    SELECT lease.id, lease.attempts, e.seq, lease.begun_at, e.type, e.data
      FROM unnest(%(owners)s::bigint[], %(seqs)s::integer[], %(types)s::text[], %(data)s::text[])
               AS e (token, seq, type, data) JOIN lease USING (token)
    ON CONFLICT DO NOTHING
)
SELECT token FROM lease;

-- name: follow_many
-- What is new for many watchers, each in one snapshot.
-- That is the job's status and the events of its newest attempt after a place: when it says done, no event is missing.
-- A place in another attempt is no place in this one: all of it is told. `asked` is an array of objects: n, its number from 1; job_id; attempt and seq, the place; told, the status known
-- already; most, how many events. Who has nothing new has no row; a job that is not there has no status.
-- Of each at most `bytes` are read. An event that is larger comes without its data, unless it is the first one's: so a
-- whole answer is never much larger than n times that.
SELECT w.n, job.status, job.attempts, e.seq, e.type, e.data, coalesce(e.more, false) AS more
  FROM json_to_recordset(%(asked)s::json)
           AS w (n integer, job_id uuid, attempt integer, seq integer, told text, most integer)
  -- One by one: a join was planned for as few jobs as there were when the plan was made.
  LEFT JOIN LATERAL (
       SELECT j.id, j.status, j.attempts, j.begun_at FROM llm.jobs j WHERE j.id = w.job_id OFFSET 0) job ON true
  LEFT JOIN LATERAL (
       SELECT p.seq, p.type, CASE WHEN p.upto <= %(bytes)s OR w.n = 1 THEN p.data END AS data,
              p.found = w.most OR p.whole > %(bytes)s AS more
         FROM (SELECT v.seq, v.type, v.data, row_number() OVER so_far AS nth, sum(v.size) OVER so_far AS upto,
                      count(*) OVER () AS found, sum(v.size) OVER () AS whole
                 FROM (SELECT v.seq, v.type, v.data, octet_length(v.data) + 64 AS size FROM llm.job_events v
                        WHERE v.job_id = job.id AND v.attempt = job.attempts AND v.begun_at = job.begun_at
                          AND v.seq > CASE WHEN job.attempts = w.attempt THEN w.seq ELSE 0 END
                        ORDER BY v.seq LIMIT w.most) v
               WINDOW so_far AS (ORDER BY v.seq)) p
        WHERE p.upto <= %(bytes)s OR p.nth = 1) e ON true
 WHERE job.id IS NULL OR job.status <> w.told OR job.attempts <> w.attempt OR e.seq IS NOT NULL
 ORDER BY w.n, e.seq;

-- name: said
-- What a job's newest attempt has said so far: the data of its deltas in order, as the JSON text of an array.
SELECT (SELECT '[' || string_agg(e.data, ',' ORDER BY e.seq) || ']' FROM llm.job_events e
         WHERE e.job_id = j.id AND e.attempt = j.attempts AND e.begun_at = j.begun_at AND e.type = 'delta') AS deltas
  FROM llm.jobs j WHERE j.id = %(job_id)s;

-- name: add_event_days
-- Make the next days' partitions.
SELECT llm.add_event_days(%(ahead)s) AS made;

-- name: drop_event_days
-- Drop partitions older than this many days.
SELECT llm.drop_event_days(%(days)s) AS dropped;
