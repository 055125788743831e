-- Many jobs at once: one INSERT for a batch, and an attempt's row written once, when the attempt ends.

-- An attempt in progress is the job's own row (begun_at, worker_id, lease_token). Its history needs no open row.
DELETE FROM llm.job_attempts a USING llm.jobs j
 WHERE j.status = 'running' AND a.job_id = j.id AND a.status = 'running';
ALTER TABLE llm.job_attempts DROP CONSTRAINT job_attempts_job_id_fkey, DROP COLUMN id;
ALTER TABLE llm.job_attempts ADD CONSTRAINT job_attempts_pkey PRIMARY KEY USING INDEX job_attempts_by_job;

-- Workers of the version before still open a row at their claim; it would be in the way of the one that is written at
-- the end. To be dropped when none is left.
CREATE FUNCTION llm.no_open_attempt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER no_open_attempt BEFORE INSERT ON llm.job_attempts
    FOR EACH ROW WHEN (NEW.status = 'running') EXECUTE FUNCTION llm.no_open_attempt();

-- Nothing here looks at old rows: claims wait for this lock, but for milliseconds whatever the history. And nothing is
-- taken away that a submit in progress still names: request_hash goes with a later version.
ALTER TABLE llm.jobs
    ADD COLUMN blocked      boolean NOT NULL DEFAULT false,   -- waits for other jobs to finish
    ADD COLUMN key_until    timestamptz,                      -- the idempotency key holds until then; NULL: for good
    ADD COLUMN result_ttl_s double precision,                 -- how long the result is kept; NULL: with the job
    ADD COLUMN result_until timestamptz,                      -- it is forgotten then
    DROP CONSTRAINT jobs_reason_check,
    ADD CONSTRAINT jobs_reason_check CHECK (reason IN (
        'failed', 'cancelled', 'deadline_exceeded', 'lease_expired', 'crashed', 'dependency_failed')) NOT VALID;

-- Only jobs that were put off: an idle worker asks when the next of them is due.
CREATE INDEX jobs_delayed ON llm.jobs (run_at) WHERE status = 'queued' AND NOT blocked AND run_at > queued_at;
CREATE INDEX jobs_results_until ON llm.jobs (result_until) WHERE result_until IS NOT NULL;

-- Writes a batch of jobs and returns their ids, in order. `batch` is an array of objects with the fields below, checked by
-- the doors. A job whose id or idempotency key named one before adds nothing: that one's id is in its place, and it
-- stays as it was submitted. Kind and payload decide whether it is the same request (another one is refused, SQLSTATE
-- LM422). A key with an end (`key_s`, seconds) names a new job after it.
CREATE FUNCTION llm.add_jobs(batch json) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    at      timestamptz := clock_timestamp();
    names   uuid[];
    asked   record;
    earlier record;
BEGIN
    -- queued_at a microsecond apart: a batch is run in its order.
    WITH added AS (
        INSERT INTO llm.jobs (id, kind, payload, priority, source, max_attempts, deadline_at, queued_at, updated_at, run_at,
                              queue, idempotency_key, key_until, result_ttl_s, blocked)
        SELECT b.id, b.kind, b.payload, b.priority, b.source, b.max_attempts, b.deadline_at,
               at + (row_number() OVER () - 1) * interval '1 microsecond', at, at + make_interval(secs => b.delay_s),
               b.queue, b.key, at + make_interval(secs => b.key_s), b.result_ttl_s, coalesce(b.blocked, false)
          FROM json_to_recordset(batch) AS b (
                   id uuid, kind text, payload text, priority integer, source text, max_attempts integer,
                   deadline_at timestamptz, delay_s double precision, queue text, key text, key_s double precision,
                   result_ttl_s double precision, blocked boolean)
        ON CONFLICT DO NOTHING
        RETURNING id
    )
    SELECT array_agg(id) INTO names FROM added;
    IF cardinality(names) = json_array_length(batch) THEN
        RETURN names;  -- as they were inserted: in order
    END IF;
    names := '{}';
    FOR asked IN SELECT one, (one ->> 'id')::uuid AS id, one ->> 'key' AS key, one ->> 'kind' AS kind,
                        one ->> 'payload' AS payload FROM json_array_elements(batch) AS one LOOP
        SELECT j.id, j.kind, j.payload, j.key_until INTO earlier FROM llm.jobs j
         WHERE j.id = asked.id OR j.idempotency_key = asked.key
         ORDER BY j.id = asked.id DESC LIMIT 1;
        IF FOUND AND (earlier.id = asked.id OR earlier.key_until IS NULL OR earlier.key_until > at) THEN
            IF earlier.kind <> asked.kind OR earlier.payload <> asked.payload THEN
                RAISE EXCEPTION 'this key was used for another request' USING ERRCODE = 'LM422';
            END IF;
            names := names || earlier.id;
        ELSE
            -- The key is free again: its time is over, or its job was pruned between the two looks.
            UPDATE llm.jobs SET idempotency_key = NULL
             WHERE id = earlier.id AND idempotency_key = asked.key AND key_until <= at;
            names := names || llm.add_jobs(json_build_array(asked.one));
        END IF;
    END LOOP;
    RETURN names;
END
$$;

-- One job; what `llm.submit` and a single submit call.
CREATE OR REPLACE FUNCTION llm.add_job(
    id              uuid,
    kind            text,
    payload         text,
    priority        integer,
    source          text,
    max_attempts    integer,
    deadline_at     timestamptz,
    delay_s         double precision,
    queue           text,
    idempotency_key text
) RETURNS uuid LANGUAGE sql AS $$
    SELECT (llm.add_jobs(json_build_array(json_build_object(
        'id', id, 'kind', kind, 'payload', payload, 'priority', priority, 'source', source,
        'max_attempts', max_attempts, 'deadline_at', deadline_at, 'delay_s', delay_s, 'queue', queue,
        'key', idempotency_key))))[1]
$$;

-- How much of a kind may run, everywhere together; a kind without a row may run as much as there are threads.
CREATE TABLE llm.limits (
    kind        text PRIMARY KEY,
    max_running integer CHECK (max_running >= 0),         -- jobs at once; NULL: any number
    rate        integer CHECK (rate > 0),                 -- jobs begun in per_s seconds, evenly spread; NULL: any
    per_s       double precision CHECK (per_s > 0),
    burst       integer NOT NULL DEFAULT 1 CHECK (burst > 0),  -- how many of them may begin at once after a quiet time
    next_at     timestamptz NOT NULL DEFAULT '-infinity', -- when the next one would begin if they came evenly
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT rate_shape CHECK ((rate IS NULL) = (per_s IS NULL))
) WITH (fillfactor = 50);

-- Queues nothing is claimed from; their running jobs run on.
CREATE TABLE llm.paused_queues (
    name      text PRIMARY KEY,
    paused_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- When the next job of a rate would begin if they came evenly, as of now: never in the past, and never farther off than
-- its bursts can have pushed it (then the server's clock was set back).
CREATE FUNCTION llm.rate_from(next_at timestamptz, burst integer, step_s double precision) RETURNS timestamptz
LANGUAGE sql AS $$
    SELECT CASE WHEN next_at > clock_timestamp() + make_interval(secs => 2 * burst * step_s + 1) THEN clock_timestamp()
                ELSE greatest(next_at, clock_timestamp()) END
$$;

-- How many jobs may be leased now of each limited kind among these, and in how many seconds one more may (NULL: once
-- one of them ends). Each kind stays locked until the claim commits: two claims cannot count the same room. A kind that
-- another claim is at has no room for a moment. The lock writes nothing, so a look that finds no job is none to be
-- committed to disk. Every statement in here sees what was committed by then: the figures are newer than the locks.
CREATE FUNCTION llm.room(kinds text[]) RETURNS TABLE (kind text, free integer, wait_s double precision)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    one     text;
    locked  text[] := '{}';
    counted text[];
BEGIN
    FOR one IN SELECT a.kind FROM llm.limits a WHERE a.kind = ANY(kinds) ORDER BY a.kind LOOP
        IF pg_try_advisory_xact_lock(hashtext('llm.limits'), hashtext(one)) THEN
            locked := locked || one;
        ELSE
            kind := one; free := 0; wait_s := 0.003 + 0.004 * random();
            RETURN NEXT;
        END IF;
    END LOOP;
    counted := ARRAY(SELECT a.kind FROM llm.limits a WHERE a.kind = ANY(locked) AND a.max_running IS NOT NULL);
    -- Rates are the generic cell rate algorithm: late_s is how far next_at runs ahead of now, by what was begun early.
    RETURN QUERY
    SELECT l.kind, least(l.places, l.tokens)::integer,
           CASE WHEN l.tokens <= coalesce(l.places, l.tokens)
                THEN greatest(0.001, l.late_s + (l.tokens - l.burst + 1) * l.step_s) END
      FROM (SELECT m.*, CASE WHEN m.max_running IS NOT NULL THEN greatest(0, m.max_running - coalesce(r.n, 0)) END AS places,
                   CASE WHEN m.rate IS NOT NULL THEN greatest(0, floor(m.burst - m.late_s / m.step_s)) END AS tokens
              FROM (SELECT a.*, a.per_s / a.rate AS step_s, greatest(0, extract(
                               epoch FROM llm.rate_from(a.next_at, a.burst, a.per_s / a.rate) - clock_timestamp()
                           )::float8) AS late_s
                      FROM llm.limits a WHERE a.kind = ANY(locked)) AS m
              LEFT JOIN (SELECT j.kind, count(*) AS n FROM llm.jobs j
                          WHERE j.status = 'running' AND j.kind = ANY(counted) AND cardinality(counted) > 0
                          GROUP BY j.kind) AS r USING (kind)) AS l
     WHERE l.max_running IS NOT NULL OR l.rate IS NOT NULL;
END
$$;
