-- Jobs that a clock submits: a row for each schedule, and the rows are the truth.

CREATE TABLE llm.schedules (
    name         text PRIMARY KEY CHECK (name ~ '\S' AND length(name) <= 200),
    kind         text NOT NULL CHECK (kind ~ '\S' AND length(kind) <= 200),
    payload      text NOT NULL DEFAULT '{}' CHECK (llm.json_fault(payload) IS NULL),
    cron         text NOT NULL CHECK (length(cron) <= 200),    -- read at every tick: one that cannot be read is paused
    timezone     text NOT NULL DEFAULT 'UTC',                  -- an IANA name
    queue        text NOT NULL DEFAULT 'default',
    priority     integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 3,
    source       text NOT NULL DEFAULT 'schedule',

    paused_at    timestamptz,                                  -- nothing is submitted while it is set
    error        text,                                         -- why it was paused, if not by somebody
    -- Bounded, because a driver that cannot read one instant (infinity, the year 10000) cannot read the whole page.
    next_at      timestamptz NOT NULL CHECK (
        next_at >= timestamptz '1970-01-01 00:00Z' AND next_at < timestamptz '9000-01-01 00:00Z'),
    last_at      timestamptz,                                  -- when a job was submitted last, and which (it may be pruned)
    last_job_id  uuid,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT schedules_error_shape CHECK (error IS NULL OR paused_at IS NOT NULL)
);

CREATE INDEX schedules_due ON llm.schedules (next_at) WHERE paused_at IS NULL;
