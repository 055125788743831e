-- name: report_metrics
-- Add what a machine measured of itself; older than a week is let go of.
WITH old AS (
    DELETE FROM llm.device_metrics
     WHERE device_id = %(device_id)s AND ts < statement_timestamp() - interval '7 days'
)
INSERT INTO llm.device_metrics (device_id, notes) VALUES (%(device_id)s, %(notes)s);

-- name: report_benchmark
-- Add a measurement of a model on a machine we know; no row back: we do not know it.
INSERT INTO llm.benchmarks (device_id, model_id, task_type, tokens_in, tokens_out, latency_ms, tps, meta)
SELECT id, %(model_id)s, %(task_type)s, %(tokens_in)s, %(tokens_out)s, %(latency_ms)s, %(tps)s, %(meta)s
  FROM llm.devices WHERE id = %(device_id)s
RETURNING id;
