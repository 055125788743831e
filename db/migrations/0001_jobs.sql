-- The job's whole life is this table; job_attempts keeps each try. See docs/jobs.md for the diagram.

CREATE SEQUENCE llm.lease_tokens AS bigint;

CREATE TABLE llm.jobs (
    id              uuid PRIMARY KEY,                     -- UUIDv7, made by the submitter: a submit can be repeated
    kind            text NOT NULL CHECK (kind ~ '\S' AND length(kind) <= 200),
    queue           text NOT NULL DEFAULT 'default',
    payload         text NOT NULL DEFAULT '{}',           -- JSON text, checked at the door; never jsonb (see docs/decisions)
    priority        integer NOT NULL DEFAULT 0,
    source          text NOT NULL DEFAULT '',
    idempotency_key text CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    request_hash    text NOT NULL DEFAULT '',             -- of kind and payload: same key, other request is refused

    status          text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'done', 'error')),
    reason          text CHECK (reason IN ('failed', 'cancelled', 'deadline_exceeded', 'lease_expired', 'crashed')),
    attempts        integer NOT NULL DEFAULT 0,           -- tries begun; counted at claim, so a killed one counts too
    releases        integer NOT NULL DEFAULT 0,           -- tries given back by a draining worker: they do not count
    crashes         integer NOT NULL DEFAULT 0,           -- leases lost in a row
    max_attempts    integer NOT NULL DEFAULT 3,

    -- Bounded, because a driver that cannot read one instant (infinity, the year 10000) cannot read the whole page.
    queued_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_at          timestamptz NOT NULL DEFAULT clock_timestamp() CHECK (run_at < timestamptz '9000-01-01 00:00Z'),
    begun_at        timestamptz,                          -- when the newest attempt was claimed
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at     timestamptz,
    deadline_at     timestamptz CHECK (
        deadline_at >= timestamptz '1970-01-01 00:00Z' AND deadline_at < timestamptz '9000-01-01 00:00Z'),

    lease_token     bigint,                               -- the fence: new at every claim
    lease_until     timestamptz,
    worker_id       text,
    claim_id        uuid,                                 -- made by the claimer: a lost reply is asked again

    result          text,
    error           text,

    CONSTRAINT lease_shape CHECK (
        (status = 'running') = (lease_token IS NOT NULL AND lease_until IS NOT NULL AND worker_id IS NOT NULL)),
    CONSTRAINT final_shape CHECK ((status IN ('queued', 'running')) = (finished_at IS NULL)),
    CONSTRAINT error_shape CHECK ((status = 'error') = (reason IS NOT NULL)),
    CONSTRAINT result_shape CHECK (result IS NULL OR status = 'done'),
    CONSTRAINT attempt_shape CHECK ((attempts = 0) = (begun_at IS NULL))
) WITH (
    fillfactor = 70,                                      -- room for heartbeats to stay in their page (HOT)
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0
);

-- Claims walk these two; finished rows are in neither, so history costs them nothing. run_at and kind are there to be
-- looked at in the index: thousands of delayed jobs, or of a kind nobody here takes, are stepped over without a visit
-- to their rows.
CREATE INDEX jobs_by_priority ON llm.jobs (priority DESC, queued_at, run_at, kind) WHERE status = 'queued';
CREATE INDEX jobs_by_age ON llm.jobs (queued_at, run_at, kind) WHERE status = 'queued';
-- Running rows are few. lease_until is not indexed: it would cost every heartbeat its HOT update.
CREATE INDEX jobs_running ON llm.jobs (worker_id) WHERE status = 'running';
CREATE INDEX jobs_by_deadline ON llm.jobs (deadline_at)
    WHERE deadline_at IS NOT NULL AND status IN ('queued', 'running');
CREATE INDEX jobs_finished ON llm.jobs (finished_at) WHERE finished_at IS NOT NULL;
-- For lists: the other statuses are found by the primary key or by an index above, errors are rare among many.
CREATE INDEX jobs_errors ON llm.jobs (id) WHERE status = 'error';
CREATE UNIQUE INDEX jobs_by_key ON llm.jobs (idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE llm.job_attempts (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id      uuid NOT NULL REFERENCES llm.jobs ON DELETE CASCADE,
    attempt     integer NOT NULL,
    lease_token bigint NOT NULL,
    worker_id   text NOT NULL,
    status      text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'done', 'error')),
    reason      text CHECK (reason IN ('failed', 'cancelled', 'deadline_exceeded', 'lease_expired', 'released')),
    error       text,
    metrics     text NOT NULL DEFAULT '{}',
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    CONSTRAINT attempt_shape CHECK ((status = 'running') = (finished_at IS NULL)),
    CONSTRAINT attempt_error_shape CHECK ((status = 'error') = (reason IS NOT NULL))
) WITH (fillfactor = 80);

CREATE UNIQUE INDEX job_attempts_by_job ON llm.job_attempts (job_id, attempt);
