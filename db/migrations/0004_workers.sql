-- Who is at work: a row a worker process, refreshed with its heartbeat.

-- A worker that lives holds an advisory lock of its session; the kernel ends the session with the process.
CREATE SEQUENCE llm.life_keys AS integer CYCLE;

CREATE TABLE llm.workers (
    id         text PRIMARY KEY,
    name       text NOT NULL DEFAULT '',
    host       text NOT NULL DEFAULT '',
    pid        integer,
    version    text NOT NULL DEFAULT '',
    kinds      text[] NOT NULL DEFAULT '{}',              -- empty: every kind
    threads    integer NOT NULL DEFAULT 1,
    running    integer NOT NULL DEFAULT 0,
    life_key   integer,                                   -- of its lock; NULL: only its leases tell
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    stopped_at timestamptz
) WITH (fillfactor = 70);

-- Alive: it has not signed off, and was seen within six times of what it reports in.
CREATE VIEW llm.live_workers AS
SELECT * FROM llm.workers WHERE stopped_at IS NULL AND seen_at > statement_timestamp() - interval '60 s';
