-- The one write path: every door, and plain SQL, ends in llm.add_job.

-- UUIDv7: 48 bits of milliseconds, then random bits (RFC 9562 §5.7). Postgres has its own only from 18 on.
CREATE FUNCTION llm.new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6),
            52, 1), 53, 1), 'hex')::uuid
$$;

-- Writes one job, whose payload is checked JSON text, and returns its id. The same id or idempotency_key again returns
-- the first job's id and changes nothing of it: kind and payload decide whether it is the same request (another one
-- is refused, SQLSTATE LM422), while priority, deadline and the like stay what the first submit said.
CREATE FUNCTION llm.add_job(
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
) RETURNS uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    hash    text := encode(sha256(convert_to(add_job.kind || E'\n' || add_job.payload, 'UTF8')), 'hex');
    earlier record;
BEGIN
    LOOP
        INSERT INTO llm.jobs (id, kind, queue, payload, priority, source, max_attempts, deadline_at, run_at,
                              idempotency_key, request_hash)
        VALUES (add_job.id, add_job.kind, add_job.queue, add_job.payload, add_job.priority, add_job.source,
                add_job.max_attempts, add_job.deadline_at,
                clock_timestamp() + make_interval(secs => add_job.delay_s), add_job.idempotency_key, hash)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN add_job.id;
        END IF;
        SELECT j.id, j.request_hash INTO earlier FROM llm.jobs j
         WHERE j.id = add_job.id OR j.idempotency_key = add_job.idempotency_key
         ORDER BY j.id = add_job.id DESC LIMIT 1;
        IF FOUND THEN
            IF earlier.request_hash <> hash THEN
                RAISE EXCEPTION 'this key was used for another request' USING ERRCODE = 'LM422';
            END IF;
            RETURN earlier.id;
        END IF;
        -- Pruned between the two looks: the key is free again.
    END LOOP;
END
$$;

-- The door for plain SQL: `SELECT llm.submit('echo', '{"n": 1}')`. Checks what the other doors check before they come
-- here (but an integer beyond 64 bits is let in; an actor gets it as a float), and refuses with SQLSTATE LM400 (LM413 over 16 MiB), the parameter's name as the error's column. Whether the
-- payload fits its kind is seen at the claim: such a job ends in `error`. Idle workers find it by polling.
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
DECLARE
    body  text := coalesce(submit.payload::text, '{}');
    -- What no list or log should have to show: control characters, and those without a width that mislead.
    hidden CONSTANT text := '[\u0001-\u001f\u007f-\u00a0\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]';
    field text;
    fault text;
BEGIN
    IF submit.kind IS NULL OR submit.kind !~ '\S' THEN
        field := 'kind'; fault := 'must not be blank';
    ELSIF length(submit.kind) > 200 THEN
        field := 'kind'; fault := 'is longer than 200 characters';
    ELSIF submit.kind ~ hidden THEN
        field := 'kind'; fault := 'holds a control character';
    ELSIF length(submit.source) > 200 THEN
        field := 'source'; fault := 'is longer than 200 characters';
    ELSIF submit.source ~ hidden THEN
        field := 'source'; fault := 'holds a control character';
    ELSIF length(submit.idempotency_key) NOT BETWEEN 1 AND 255 THEN
        field := 'idempotency_key'; fault := 'must be 1 to 255 characters';
    ELSIF submit.idempotency_key ~ hidden THEN
        field := 'idempotency_key'; fault := 'holds a control character';
    ELSIF submit.deadline_at NOT BETWEEN timestamptz '1970-01-01 00:00Z' AND clock_timestamp() + interval '100 years' THEN
        field := 'deadline_at'; fault := 'must be between 1970 and a hundred years from now';
    ELSIF submit.delay_s NOT BETWEEN 0 AND 100 * 365 * 86400.0 THEN
        field := 'delay_s'; fault := 'must be between 0 and a hundred years';
    ELSIF octet_length(body) > 16 * 1024 * 1024 THEN
        RAISE EXCEPTION 'payload: over 16 MiB' USING ERRCODE = 'LM413', COLUMN = 'payload';
    ELSE
        field := 'payload'; fault := llm.json_fault(body);
    END IF;
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION '%: %', field, fault USING ERRCODE = 'LM400', COLUMN = field;
    END IF;
    RETURN llm.add_job(
        coalesce(submit.id, llm.new_id()), submit.kind, body, coalesce(submit.priority, 0),
        coalesce(submit.source, 'sql'), coalesce(nullif(submit.max_attempts, 0), 3), submit.deadline_at,
        coalesce(submit.delay_s, 0), coalesce(submit.queue, 'default'), submit.idempotency_key);
END
$$;

-- Says why a JSON text must not be let in, NULL when it may: what type json accepts and some reader chokes on.
CREATE FUNCTION llm.json_fault(body text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    value jsonb;
BEGIN
    value := body::jsonb;
    IF jsonb_path_exists(value, 'strict $.**{64 to last}') THEN
        RETURN 'nested deeper than 64';
    END IF;
    IF jsonb_path_exists(value, 'strict $.** ? (@.type() == "number" && (@ > 1.7e308 || @ < -1.7e308))') THEN
        RETURN 'number out of range';
    END IF;
    RETURN NULL;
EXCEPTION
    WHEN statement_too_complex THEN
        RETURN 'nested deeper than 64';
    WHEN numeric_value_out_of_range THEN
        RETURN 'number out of range';
    WHEN untranslatable_character THEN
        RETURN 'U+0000 is not allowed in text';
    WHEN invalid_text_representation THEN
        RETURN 'half a character (lone surrogate)';
END
$$;
