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

-- name: benchmarks
-- Measurements, newest first, of one model or of one machine (NULL: of any).
SELECT device_id, model_id, task_type, tokens_in, tokens_out, latency_ms, tps, meta, created_at FROM llm.benchmarks
 WHERE (%(model_id)s::text IS NULL OR model_id = %(model_id)s::text)
   AND (%(device_id)s::text IS NULL OR device_id = %(device_id)s::text)
 ORDER BY id DESC LIMIT %(n)s;
