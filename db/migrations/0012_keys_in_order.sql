-- Batches with the same keys in another order no longer lock each other out.

-- As before (see 0011), but for the order in which the rows of a batch are written.
CREATE OR REPLACE FUNCTION llm.write_jobs(batch json, OUT names uuid[], OUT waiting uuid[]) LANGUAGE plpgsql AS $$
DECLARE
    at      timestamptz := clock_timestamp();
    asked   record;
    earlier record;
    again   record;
BEGIN
    -- queued_at a microsecond apart: a batch is run in its order, which is that of `names` too. It is written in the order
    -- of its keys: batches with the same ones wait for each other, and never both ways round.
    WITH added AS (
        INSERT INTO llm.jobs (id, kind, payload, priority, source, max_attempts, deadline_at, queued_at, updated_at, run_at,
                              queue, idempotency_key, key_until, result_ttl_s, blocked, principal)
        SELECT b.id, b.kind, b.payload, b.priority, b.source, b.max_attempts, b.deadline_at,
               at + (b.nth - 1) * interval '1 microsecond', at, at + make_interval(secs => b.delay_s),
               b.queue, b.key, at + make_interval(secs => b.key_s), b.result_ttl_s,
               coalesce(json_array_length(b.after) > 0, false), b.principal
          FROM ROWS FROM (json_to_recordset(batch) AS (
                   id uuid, kind text, payload text, priority integer, source text, max_attempts integer,
                   deadline_at timestamptz, delay_s double precision, queue text, key text, key_s double precision,
                   result_ttl_s double precision, after json, principal text))
               WITH ORDINALITY AS b (id, kind, payload, priority, source, max_attempts, deadline_at, delay_s, queue, key,
                                     key_s, result_ttl_s, after, principal, nth)
         ORDER BY b.key, b.nth
        ON CONFLICT DO NOTHING
        RETURNING id, blocked, queued_at
    )
    SELECT array_agg(id ORDER BY queued_at), array_agg(id ORDER BY queued_at) FILTER (WHERE blocked)
      INTO names, waiting FROM added;
    IF cardinality(names) = json_array_length(batch) THEN
        RETURN;
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
