-- name: drained
-- How a self-test's jobs went.
-- How many are done, how many needed more than one attempt, when the first and the last one's function began (it
-- returned that, in µs), and the seconds from the first claim to the last commit.
SELECT count(*) FILTER (WHERE status = 'done') AS done, count(*) FILTER (WHERE attempts > 1) AS repeated,
       min(result::bigint) AS first_us, max(result::bigint) AS last_us,
       extract(epoch FROM max(finished_at) - min(begun_at))::float8 AS committed_s
  FROM llm.jobs WHERE id BETWEEN %(first)s AND %(last)s;
