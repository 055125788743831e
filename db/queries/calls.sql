-- name: answer
-- What a call waits for: where its job stands, its result or error, and how its newest attempt went.
SELECT j.kind, j.status, j.reason, j.error, j.attempts,
       CASE WHEN j.result_until IS NULL OR j.result_until > statement_timestamp() THEN j.result END AS result,
       (extract(epoch FROM a.started_at - j.queued_at) * 1000)::float8 AS queued_ms, a.worker_id, a.metrics
  FROM llm.jobs j LEFT JOIN llm.job_attempts a ON a.job_id = j.id AND a.attempt = j.attempts
 WHERE j.id = %(job_id)s;

-- name: keyed
-- What an idempotency key was first used for.
SELECT id, kind, payload FROM llm.jobs
 WHERE idempotency_key = %(key)s AND (key_until IS NULL OR key_until > statement_timestamp());
