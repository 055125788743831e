-- name: line
-- Who waits, in the order in which they are claimed; of the first `walk` those of these kinds. `cut`: there are more.
-- Read in the index: a job that waits for others is counted all the same.
SELECT kind, priority, queued_at, cut
  FROM (SELECT kind, priority, queued_at, run_at, count(*) OVER () = %(walk)s AS cut
          FROM (SELECT kind, priority, queued_at, run_at FROM llm.jobs
                 WHERE status = 'queued' ORDER BY priority DESC, queued_at LIMIT %(walk)s) AS head) AS waiting
 WHERE kind = ANY(%(kinds)s) AND run_at <= statement_timestamp()
 ORDER BY priority DESC, queued_at LIMIT %(n)s;

-- name: speeds
-- How long jobs of these kinds ran that finished lately (s), and how many run now, where both are known.
WITH lately AS (
    SELECT kind, status, begun_at, finished_at FROM llm.jobs
     WHERE finished_at IS NOT NULL AND finished_at > statement_timestamp() - make_interval(secs => %(lately_s)s)
     ORDER BY finished_at DESC LIMIT %(n)s
), ran AS (
    SELECT kind, avg(extract(epoch FROM finished_at - begun_at))::float8 AS mean_s FROM lately
     WHERE status = 'done' AND begun_at IS NOT NULL AND kind = ANY(%(kinds)s)
     GROUP BY kind HAVING count(*) >= %(enough)s
), running AS (
    SELECT kind, count(*) AS at_once FROM llm.jobs WHERE status = 'running' AND kind = ANY(%(kinds)s) GROUP BY kind
)
SELECT kind, mean_s, at_once FROM ran JOIN running USING (kind);
