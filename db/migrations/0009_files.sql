-- Files that clients hand in and get back, in pieces so that nobody ever holds one whole; and batches, the requests of a
-- file run as jobs.

CREATE TABLE llm.files (
    id         uuid PRIMARY KEY,                          -- UUIDv7
    purpose    text NOT NULL CHECK (purpose IN ('batch', 'batch_output')),
    filename   text NOT NULL,
    bytes      bigint,                                    -- NULL while it is being written: nobody sees it
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz
);
CREATE INDEX files_expiring ON llm.files (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX files_unfinished ON llm.files (created_at) WHERE bytes IS NULL;

CREATE TABLE llm.file_pieces (
    file_id uuid NOT NULL REFERENCES llm.files ON DELETE CASCADE,
    place   integer NOT NULL,
    data    bytea NOT NULL,
    PRIMARY KEY (file_id, place)
);

CREATE TABLE llm.batches (
    id              uuid PRIMARY KEY,                     -- UUIDv7
    endpoint        text NOT NULL,
    input_file_id   uuid NOT NULL,
    status          text NOT NULL DEFAULT 'validating' CHECK (status IN (
                        'validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', 'cancelled')),
    metadata        text NOT NULL DEFAULT '{}',           -- JSON text
    errors          text,                                 -- JSON text: why it failed
    idempotency_key text,
    step            integer NOT NULL DEFAULT 0,           -- of the job that drives it now
    expired         boolean NOT NULL DEFAULT false,       -- its time was over before it was
    total           integer NOT NULL DEFAULT 0,
    completed       integer NOT NULL DEFAULT 0,
    failed          integer NOT NULL DEFAULT 0,
    -- Made beforehand: who writes them again after a crash writes the same ones.
    output_file_id  uuid NOT NULL,
    error_file_id   uuid NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at      timestamptz NOT NULL,
    in_progress_at  timestamptz,
    finalizing_at   timestamptz,
    cancelling_at   timestamptz,
    finished_at     timestamptz,
    CONSTRAINT finished_shape CHECK (
        (finished_at IS NOT NULL) = (status IN ('failed', 'completed', 'expired', 'cancelled')))
);
CREATE INDEX batches_unfinished ON llm.batches (input_file_id) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX batches_by_key ON llm.batches (idempotency_key) WHERE idempotency_key IS NOT NULL;

-- A line of a batch, from its validation until its outcome is in a file. The request itself stays in the input file.
CREATE TABLE llm.batch_lines (
    batch_id  uuid NOT NULL REFERENCES llm.batches ON DELETE CASCADE,
    line      integer NOT NULL,                           -- from 1
    at        bigint NOT NULL,                            -- where it lies in the file, and how long it is, bytes
    bytes     integer NOT NULL,
    custom_id text NOT NULL,
    job_id    uuid,                                       -- given before there is a job: a submit can be repeated
    failed    boolean,                                    -- NULL until its outcome is known
    outcome   text,                                       -- its line of the output or the error file
    PRIMARY KEY (batch_id, line),
    CONSTRAINT outcome_shape CHECK ((failed IS NULL) = (outcome IS NULL))
);
CREATE INDEX batch_lines_waiting ON llm.batch_lines (batch_id, line) WHERE job_id IS NULL AND failed IS NULL;
CREATE INDEX batch_lines_running ON llm.batch_lines (batch_id, line) WHERE job_id IS NOT NULL AND failed IS NULL;
