-- Jobs that wait for other jobs. Whether one may go on is judged by the rows of those it needs: there is no counter that
-- could be wrong.

CREATE TABLE llm.job_needs (
    job_id   uuid NOT NULL,
    place    integer NOT NULL,                            -- in the order they were named
    needs_id uuid NOT NULL,
    may_fail boolean NOT NULL,                            -- it goes on also when this one ended in error
    PRIMARY KEY (job_id, place)
);
CREATE INDEX job_needs_followers ON llm.job_needs (needs_id, job_id);

-- The jobs that are blocked. An index of jobs would tell as well, but to make one reads all the old rows.
CREATE TABLE llm.blocked_jobs (job_id uuid PRIMARY KEY);

-- Which of these jobs others need. It sees what is committed by the time it is called: a statement that has locked the
-- jobs and then asks cannot miss a follower, for whoever adds one later finds the locks (see `await_needs`).
-- Made for an index, because its plan is kept while the table grows.
CREATE FUNCTION llm.followed(ids uuid[]) RETURNS uuid[] LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
BEGIN
    RETURN ARRAY(SELECT one FROM unnest(ids) AS one
                  WHERE (SELECT true FROM llm.job_needs n WHERE n.needs_id = one LIMIT 1));
END
$$;

-- Writes the rows of a batch: `names` are the jobs' ids in its order, `waiting` those of the jobs that are new and need
-- others. For `llm.add_jobs`, where the fields are told.
CREATE FUNCTION llm.write_jobs(batch json, OUT names uuid[], OUT waiting uuid[]) LANGUAGE plpgsql AS $$
DECLARE
    at      timestamptz := clock_timestamp();
    asked   record;
    earlier record;
    again   record;
BEGIN
    -- queued_at a microsecond apart: a batch is run in its order.
    WITH added AS (
        INSERT INTO llm.jobs (id, kind, payload, priority, source, max_attempts, deadline_at, queued_at, updated_at, run_at,
                              queue, idempotency_key, key_until, result_ttl_s, blocked)
        SELECT b.id, b.kind, b.payload, b.priority, b.source, b.max_attempts, b.deadline_at,
               at + (row_number() OVER () - 1) * interval '1 microsecond', at, at + make_interval(secs => b.delay_s),
               b.queue, b.key, at + make_interval(secs => b.key_s), b.result_ttl_s,
               coalesce(json_array_length(b.after) > 0, false)
          FROM json_to_recordset(batch) AS b (
                   id uuid, kind text, payload text, priority integer, source text, max_attempts integer,
                   deadline_at timestamptz, delay_s double precision, queue text, key text, key_s double precision,
                   result_ttl_s double precision, after json)
        ON CONFLICT DO NOTHING
        RETURNING id, blocked
    )
    SELECT array_agg(id), array_agg(id) FILTER (WHERE blocked) INTO names, waiting FROM added;
    IF cardinality(names) = json_array_length(batch) THEN
        RETURN;  -- as they were inserted: in order
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
            SELECT w.names, w.waiting INTO again FROM llm.write_jobs(json_build_array(asked.one)) w;
            names := names || again.names;
            waiting := waiting || again.waiting;
        END IF;
    END LOOP;
END
$$;

-- Writes what the `waiting` jobs of a batch need. Each need is a job that is there, or one before it in the batch, so
-- none can wait for itself, however far around; one that is neither is refused (SQLSTATE LM400) by its place, which is
-- the error's column. Inside a batch the id that was given counts, also when its key named another job.
CREATE FUNCTION llm.add_needs(batch json, names uuid[], waiting uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    stranger record;
BEGIN
    WITH asked AS MATERIALIZED (
        SELECT DISTINCT ON (b.id) b.id, names[b.nth] AS name, b.nth, b.after, b.after_error
          FROM ROWS FROM (json_to_recordset(batch) AS (id uuid, after json, after_error text))
               WITH ORDINALITY AS b (id, after, after_error, nth)
         ORDER BY b.id, b.nth
    ), wanted AS MATERIALIZED (
        SELECT a.id, a.nth, n.place, coalesce(e.name, n.id::uuid) AS needs_id, coalesce(a.after_error = 'run', false) AS may_fail,
               CASE WHEN e.id IS NULL THEN (SELECT true FROM llm.jobs j WHERE j.id = n.id::uuid LIMIT 1) IS NOT NULL
                    ELSE e.nth < a.nth END AS known
          FROM asked a CROSS JOIN LATERAL json_array_elements_text(a.after) WITH ORDINALITY AS n (id, place)
          LEFT JOIN asked e ON e.id = n.id::uuid
         WHERE a.id = ANY(waiting)
    ), added AS (
        INSERT INTO llm.job_needs (job_id, place, needs_id, may_fail) SELECT id, place - 1, needs_id, may_fail FROM wanted
    ), blocked AS (
        INSERT INTO llm.blocked_jobs (job_id) SELECT unnest(waiting)
    )
    SELECT nth - 1 AS nth, place - 1 AS place INTO stranger FROM wanted WHERE NOT known ORDER BY nth, place LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'names no job that is there' USING ERRCODE = 'LM400',
            COLUMN = format('[%s].after[%s]', stranger.nth, stranger.place);
    END IF;
END
$$;

-- As before (see 0005), and two fields more: `after`, the ids of jobs that are to be finished first, and `after_error`:
-- `stop` (the job ends in error when one of them does) or `run` (it runs in any case).
CREATE OR REPLACE FUNCTION llm.add_jobs(batch json) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    written record;
BEGIN
    SELECT w.names, w.waiting INTO written FROM llm.write_jobs(batch) w;
    IF written.waiting IS NOT NULL THEN
        PERFORM llm.add_needs(batch, written.names, written.waiting);
    END IF;
    RETURN written.names;
END
$$;
