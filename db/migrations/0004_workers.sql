-- Who is at work: a row a worker process, refreshed with its heartbeat.

CREATE TABLE llm.workers (
    id         text PRIMARY KEY,
    name       text NOT NULL DEFAULT '',
    host       text NOT NULL DEFAULT '',
    pid        integer,
    version    text NOT NULL DEFAULT '',
    kinds      text[] NOT NULL DEFAULT '{}',              -- empty: every kind
    threads    integer NOT NULL DEFAULT 1,
    running    integer NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    stopped_at timestamptz
) WITH (fillfactor = 70);
