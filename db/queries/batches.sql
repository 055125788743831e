-- name: add_batch
-- Begin a batch, or find the one its key already named.
WITH added AS (
    INSERT INTO llm.batches (id, endpoint, input_file_id, metadata, idempotency_key, output_file_id, error_file_id, expires_at)
    VALUES (%(id)s, %(endpoint)s, %(input_file_id)s, %(metadata)s, %(key)s, %(output_file_id)s, %(error_file_id)s,
            clock_timestamp() + make_interval(secs => %(window_s)s))
    ON CONFLICT DO NOTHING RETURNING id
)
SELECT id FROM added UNION ALL SELECT id FROM llm.batches WHERE idempotency_key = %(key)s LIMIT 1;

-- name: batch
-- One batch, whether its time is over, and how many of its jobs ended well and badly that are not noted yet.
SELECT b.*, b.expires_at <= statement_timestamp() AS late, r.done_now, r.failed_now
  FROM llm.batches b CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE e.status = 'done') AS done_now, count(*) FILTER (WHERE e.status = 'error') AS failed_now
         FROM (SELECT (SELECT j.status FROM llm.jobs j WHERE j.id = l.job_id) AS status FROM llm.batch_lines l
                WHERE l.batch_id = b.id AND l.job_id IS NOT NULL AND l.failed IS NULL) e) r
 WHERE b.id = %(id)s;

-- name: batches
-- A page of batches, newest first; `before` is the last id of the page before.
SELECT b.*, b.expires_at <= statement_timestamp() AS late, r.done_now, r.failed_now
  FROM (SELECT * FROM llm.batches WHERE %(before)s::uuid IS NULL OR id < %(before)s::uuid
         ORDER BY id DESC LIMIT %(n)s) b CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE e.status = 'done') AS done_now, count(*) FILTER (WHERE e.status = 'error') AS failed_now
         FROM (SELECT (SELECT j.status FROM llm.jobs j WHERE j.id = l.job_id) AS status FROM llm.batch_lines l
                WHERE l.batch_id = b.id AND l.job_id IS NOT NULL AND l.failed IS NULL) e) r
 ORDER BY b.id DESC;

-- name: step_batch
-- Note which step drives a batch.
UPDATE llm.batches SET step = greatest(step, %(step)s) WHERE id = %(id)s RETURNING step;

-- name: add_lines
-- Write lines of a batch that is being validated; those there already stay.
INSERT INTO llm.batch_lines (batch_id, line, at, bytes, custom_id)
SELECT %(id)s, l.line, l.at, l.bytes, l.custom_id
  FROM json_to_recordset(%(lines)s::json) AS l (line integer, at bigint, bytes integer, custom_id text)
ON CONFLICT DO NOTHING;

-- name: start_batch
-- A batch was found valid.
UPDATE llm.batches SET status = 'in_progress', in_progress_at = clock_timestamp(), total = %(total)s
 WHERE id = %(id)s AND status = 'validating' RETURNING id;

-- name: fail_batch
-- A batch was found invalid: nothing of it is run.
WITH ended AS (
    UPDATE llm.batches SET status = 'failed', finished_at = clock_timestamp(), errors = %(errors)s
     WHERE id = %(id)s AND status = 'validating' RETURNING id
)
DELETE FROM llm.batch_lines l WHERE l.batch_id = (SELECT id FROM ended);

-- name: cancel_batch
-- Have a batch end; what it was doing is ended by its next step.
UPDATE llm.batches SET status = 'cancelling', cancelling_at = clock_timestamp()
 WHERE id = %(id)s AND status IN ('validating', 'in_progress') RETURNING id;

-- name: expire_batch
-- The time of a batch is over.
UPDATE llm.batches SET status = 'finalizing', finalizing_at = clock_timestamp(), expired = true
 WHERE id = %(id)s AND status IN ('validating', 'in_progress') RETURNING id;

-- name: finalize_batch
-- Every line of a batch has its outcome.
UPDATE llm.batches SET status = 'finalizing', finalizing_at = clock_timestamp()
 WHERE id = %(id)s AND status = 'in_progress' RETURNING id;

-- name: end_batch
-- The files of a batch are written: it is over, and its lines are kept no more.
WITH ended AS (
    UPDATE llm.batches SET finished_at = clock_timestamp(),
           status = CASE WHEN cancelling_at IS NOT NULL THEN 'cancelled' WHEN expired THEN 'expired' ELSE 'completed' END
     WHERE id = %(id)s AND status IN ('finalizing', 'cancelling') RETURNING id
)
DELETE FROM llm.batch_lines l WHERE l.batch_id = (SELECT id FROM ended);

-- name: waiting_lines
-- Lines of a batch without a job, in order.
SELECT line, at, bytes, custom_id, job_id FROM llm.batch_lines
 WHERE batch_id = %(id)s AND job_id IS NULL AND failed IS NULL ORDER BY line LIMIT %(n)s;

-- name: take_lines
-- Give lines their jobs' ids, before there are jobs; each is given one once.
UPDATE llm.batch_lines l SET job_id = t.job_id
  FROM json_to_recordset(%(lines)s::json) AS t (line integer, job_id uuid)
 WHERE l.batch_id = %(id)s AND l.line = t.line AND l.job_id IS NULL AND l.failed IS NULL
   AND (SELECT b.status FROM llm.batches b WHERE b.id = %(id)s) = 'in_progress'
RETURNING l.line;

-- name: running_lines
-- Lines whose outcome is not known, and where their jobs stand (NULL: there is no such job).
SELECT l.line, l.at, l.bytes, l.custom_id, l.job_id, (SELECT j.status FROM llm.jobs j WHERE j.id = l.job_id) AS status
  FROM llm.batch_lines l
 WHERE l.batch_id = %(id)s AND l.job_id IS NOT NULL AND l.failed IS NULL ORDER BY l.line LIMIT %(n)s;

-- name: note_lines
-- Note outcomes; the first one of a line counts, once.
WITH noted AS (
    UPDATE llm.batch_lines l SET failed = o.failed, outcome = o.outcome
      FROM json_to_recordset(%(lines)s::json) AS o (line integer, failed boolean, outcome text)
     WHERE l.batch_id = %(id)s AND l.line = o.line AND l.failed IS NULL
    RETURNING l.failed
)
UPDATE llm.batches SET completed = completed + (SELECT count(*) FROM noted WHERE NOT noted.failed),
                       failed = failed + (SELECT count(*) FROM noted WHERE noted.failed)
 WHERE id = %(id)s;

-- name: line_outcomes
-- Outcomes of a batch of one sort, in order, after a line.
SELECT line, outcome FROM llm.batch_lines
 WHERE batch_id = %(id)s AND line > %(after)s AND failed = %(failed)s ORDER BY line LIMIT %(n)s;
