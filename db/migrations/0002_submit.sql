-- The one write path: every door, and plain SQL, ends here.

-- UUIDv7: 48 bits of milliseconds, then random bits (RFC 9562 §5.7). Postgres has its own only from 18 on.
CREATE FUNCTION llm.new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6),
            52, 1), 53, 1), 'hex')::uuid
$$;

-- Adds one job and returns its id. Give the same id or idempotency_key again and the first job's id comes back;
-- the same key for another kind or payload is refused (SQLSTATE LM422).
CREATE FUNCTION llm.submit(
    kind            text,
    payload         json DEFAULT '{}',
    priority        integer DEFAULT 0,
    source          text DEFAULT 'sql',
    max_attempts    integer DEFAULT 3,
    deadline_at     timestamptz DEFAULT NULL,
    delay_s         double precision DEFAULT 0,
    queue           text DEFAULT 'default',
    idempotency_key text DEFAULT NULL,
    id              uuid DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    new_id    uuid := coalesce(submit.id, llm.new_id());
    body      text := coalesce(submit.payload, '{}')::text;
    hash      text := encode(sha256(convert_to(submit.kind || E'\n' || coalesce(submit.payload, '{}')::text, 'UTF8')), 'hex');
    first_id  uuid;
    first_job record;
BEGIN
    IF submit.kind IS NULL OR submit.kind !~ '\S' THEN
        RAISE EXCEPTION 'kind must not be blank' USING ERRCODE = 'LM400';
    END IF;
    IF octet_length(body) > 16 * 1024 * 1024 THEN
        RAISE EXCEPTION 'payload: over 16 MiB' USING ERRCODE = 'LM413';
    END IF;
    INSERT INTO llm.jobs (id, kind, queue, payload, priority, source, max_attempts, deadline_at, run_at,
                          idempotency_key, request_hash)
    VALUES (new_id, submit.kind, submit.queue, body, submit.priority, submit.source, submit.max_attempts,
            submit.deadline_at, clock_timestamp() + make_interval(secs => greatest(submit.delay_s, 0)),
            submit.idempotency_key, hash)
    ON CONFLICT DO NOTHING
    RETURNING jobs.id INTO first_id;
    IF first_id IS NOT NULL THEN
        RETURN first_id;
    END IF;
    SELECT j.id, j.request_hash INTO first_job FROM llm.jobs j
     WHERE j.id = new_id OR j.idempotency_key = submit.idempotency_key
     ORDER BY j.id = new_id DESC LIMIT 1;
    IF first_job.request_hash IS DISTINCT FROM hash THEN
        RAISE EXCEPTION 'this key was used for another request' USING ERRCODE = 'LM422';
    END IF;
    RETURN first_job.id;
END
$$;
