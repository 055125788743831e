-- Streams are rows. Days are partitions, so that old ones are dropped and never deleted row by row.

-- An event lies in the partition of the day its *attempt* began. So all events of an attempt lie together, and one of
-- a number can be there only once: a repeated append meets the first one, even while that is still being written.
CREATE TABLE llm.job_events (
    job_id     uuid NOT NULL,
    attempt    integer NOT NULL,
    seq        integer NOT NULL,
    begun_at   timestamptz NOT NULL,
    type       text NOT NULL,
    data       text NOT NULL,
    PRIMARY KEY (job_id, attempt, seq, begun_at)
) PARTITION BY RANGE (begun_at);

-- Catches what no day covers (a scheduler that has been off for days): streams must not fail over housekeeping.
CREATE TABLE llm.job_events_other PARTITION OF llm.job_events DEFAULT;

-- Makes the partitions from yesterday to `ahead` days from now; a day the default partition already holds rows
-- of is left to it. Returns how many were made. Gives up at once when a long reader is in the way: the queue behind a
-- waiting lock would be every stream.
CREATE FUNCTION llm.add_event_days(ahead integer) RETURNS integer LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
    day  date;
    made integer := 0;
BEGIN
    FOR i IN -1..ahead LOOP
        day := (statement_timestamp() AT TIME ZONE 'UTC')::date + i;
        CONTINUE WHEN to_regclass(format('llm.job_events_%s', to_char(day, 'YYYYMMDD'))) IS NOT NULL;
        CONTINUE WHEN EXISTS (
            SELECT FROM llm.job_events_other o
             WHERE o.begun_at >= day::timestamp AT TIME ZONE 'UTC'
               AND o.begun_at < (day + 1)::timestamp AT TIME ZONE 'UTC');
        EXECUTE format(
            'CREATE TABLE llm.job_events_%s PARTITION OF llm.job_events FOR VALUES FROM (%L) TO (%L)',
            to_char(day, 'YYYYMMDD'), day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- Drops the days older than `keep` days, and clears the default partition of such rows. Returns the days dropped.
CREATE FUNCTION llm.drop_event_days(keep integer) RETURNS integer LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
    part    record;
    dropped integer := 0;
    oldest  date := (statement_timestamp() AT TIME ZONE 'UTC')::date - keep;
BEGIN
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'llm.job_events'::regclass AND c.relname ~ '^job_events_\d{8}$'
    LOOP
        IF to_date(right(part.relname, 8), 'YYYYMMDD') < oldest THEN
            EXECUTE format('DROP TABLE llm.%I', part.relname);
            dropped := dropped + 1;
        END IF;
    END LOOP;
    DELETE FROM llm.job_events_other WHERE begun_at < oldest::timestamp AT TIME ZONE 'UTC';
    RETURN dropped;
END
$$;

SELECT llm.add_event_days(7);
