-- What workers say of their machines and of the speed of models there.
CREATE TABLE llm.device_metrics (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id     text NOT NULL REFERENCES llm.devices ON DELETE CASCADE,
    ts            timestamptz NOT NULL DEFAULT clock_timestamp(),
    cpu_pct       double precision,
    mem_used_mb   double precision,
    mem_total_mb  double precision,
    gpu_name      text,
    vram_used_mb  double precision,
    vram_total_mb double precision,
    tps           double precision,
    latency_ms    integer,
    notes         text                                    -- JSON text, as the worker wrote it
);
CREATE INDEX device_metrics_of ON llm.device_metrics (device_id, ts DESC);

CREATE TABLE llm.benchmarks (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id  text NOT NULL REFERENCES llm.devices ON DELETE CASCADE,
    model_id   text NOT NULL,
    task_type  text NOT NULL DEFAULT 'generate',
    tokens_in  integer NOT NULL DEFAULT 0,
    tokens_out integer NOT NULL DEFAULT 0,
    latency_ms integer NOT NULL DEFAULT 0,
    tps        double precision NOT NULL DEFAULT 0,       -- tokens/s
    meta       text NOT NULL DEFAULT '{}',                -- JSON text, as the worker wrote it
    ok         boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX benchmarks_of ON llm.benchmarks (model_id, task_type, created_at DESC);
