"""What the doctor sees of the work."""

from __future__ import annotations

import pytest

from llm_mcp.doctor import Finding, Verdict, work
from llm_mcp.doctor.finding import span
from llm_mcp.jobs import Jobs
from llm_mcp.store import health, workers
from llm_mcp.store.pool import Connection, Database
from tests.integration.rows import add


def at_work(db: Database, *kinds: str) -> None:
    """Let there be a worker that takes these kinds."""
    workers.seen(db, "w", name="", host="", pid=1, version="", kinds=kinds, threads=3, running=0)


def worst(findings: list[Finding]) -> Finding:
    """Return the last finding that is not well, else the last."""
    return [finding for finding in findings if finding.verdict is not Verdict.OK or finding is findings[-1]][-1]


def test_who_works_and_what_nobody_does(jobs: Jobs, db: Database) -> None:
    assert "no worker is alive" in worst(list(work.workers(jobs))).what
    at_work(db, "echo")
    assert [finding.what for finding in work.workers(jobs)] == ["1 worker, 3 jobs at once"]
    add(db, "lonely")
    assert "1 jobs of kind 'lonely' wait" in worst(list(work.workers(jobs))).what


def test_a_job_that_waits_longer_than_the_ageing_bound_is_found(db: Database, sql: Connection) -> None:
    at_work(db, "echo")
    job_id = add(db)
    add(db, delay_s=3600.0)
    add(db, "lonely")
    (found,) = work.waiting(db, older_s=600.0)
    assert found.verdict is Verdict.OK
    sql.execute("UPDATE llm.jobs SET queued_at = queued_at - interval '20 min'")
    (found,) = work.waiting(db, older_s=600.0)
    assert found.verdict is Verdict.OK  # it was put off till now, or since
    sql.execute("UPDATE llm.jobs SET run_at = run_at - interval '20 min'")
    (found,) = work.waiting(db, older_s=600.0)
    assert f"job {job_id} (echo) has waited 20 min" in found.what
    (found,) = work.waiting(db, older_s=1800.0)
    assert found.verdict is Verdict.OK
    sql.execute("INSERT INTO llm.paused_queues (name) SELECT queue FROM llm.jobs WHERE id = %s", (job_id,))
    (found,) = work.waiting(db, older_s=600.0)
    sql.execute("DELETE FROM llm.paused_queues")
    assert found.verdict is Verdict.OK


def test_jobs_that_killed_their_workers_are_counted(db: Database, sql: Connection) -> None:
    assert worst(list(work.crashed(db))).verdict is Verdict.OK
    first, last, failed = add(db), add(db), add(db)
    ended = "UPDATE llm.jobs SET status = 'error', reason = %s, finished_at = now() WHERE id = ANY(%s)"
    sql.execute(ended, ("crashed", [first, last]))
    sql.execute(ended, ("failed", [failed]))
    (found,) = work.crashed(db)
    assert found.verdict is Verdict.WARN
    assert f"2 jobs were given up after three lost workers each, the newest {last}" in found.what
    assert f"llm-mcp jobs show {last}" in found.remedy


def test_days_that_nobody_made_are_found(db: Database, sql: Connection) -> None:
    (found,) = work.event_days(db)
    assert found.what == "partitions of the streams are made 7 days ahead"
    with sql.transaction(force_rollback=True):
        days = sql.execute(
            "SELECT c.oid::regclass::text AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'llm.job_events'::regclass AND c.relname > to_char("
            " (now() AT TIME ZONE 'UTC')::date, '\"job_events_\"YYYYMMDD') AND c.relname <> 'job_events_other'"
        ).fetchall()
        assert len(days) == 7
        for day in days:
            sql.execute(f"DROP TABLE {day['name']}")
        (row,) = db.run("event_days", conn=sql)
        assert row == {"ahead": 0}


@pytest.mark.parametrize(("ahead", "verdict"), [(None, Verdict.WARN), (0, Verdict.WARN), (1, Verdict.OK)])
def test_tomorrow_is_what_counts(
    db: Database, monkeypatch: pytest.MonkeyPatch, ahead: int | None, verdict: Verdict
) -> None:
    monkeypatch.setattr(health, "event_days", lambda _: ahead)
    (found,) = work.event_days(db)
    assert found.verdict is verdict


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "0.2 s"), (9.9, "9.9 s"), (60, "60 s"), (119, "119 s"), (600, "10 min"), (7275, "2 h"), (172800, "2 d")],
)
def test_a_length_of_time_in_words(seconds: float, words: str) -> None:
    assert span(seconds) == words
