"""What an operator does to jobs: errors tried anew, running ones taken back, old ones and results forgotten."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from llm_mcp.errors import Conflict, InvalidInput, LeaseLost
from llm_mcp.job import Reason, Status, Submission
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.scheduler import Scheduler
from llm_mcp.store import events, sweeps
from llm_mcp.store import jobs as job_rows
from llm_mcp.store import leases as verbs
from llm_mcp.store.listen import JOB_ENDED, JOB_QUEUED
from llm_mcp.store.pool import Connection, Database
from tests.integration.conftest import Begin
from tests.integration.rows import add, claim, count, lease, rewind, whole
from tests.waiting import until


def failed(db: Database, **more: Any) -> UUID:
    """Make a job that ended in error at its first try."""
    held = lease(db, max_attempts=1, **more)
    verbs.fail(db, held.job_id, held.token, error="no", retryable=True, delay_s=0)
    return held.job_id


def errors(sql: Connection, n: int, *, kind: str = "echo", reason: str = "failed") -> None:
    """Make many of them at once."""
    sql.execute(
        "INSERT INTO llm.jobs (id, kind, status, reason, error, attempts, begun_at, finished_at)"
        " SELECT llm.new_id(), %s, 'error', %s, 'no', 1, now(), now() FROM generate_series(1, %s)",
        (kind, reason, n),
    )


# — retry —


def test_an_error_is_tried_anew_with_all_its_tries(db: Database, dsn: str, jobs: Jobs) -> None:
    job_id = add(db, max_attempts=2)
    for attempt in (1, 2):
        (held,) = claim(db)
        events.append(db, job_id, held.token, [(1, "delta", f'{{"text":"{attempt}"}}')])
        verbs.fail(db, job_id, held.token, error="no", retryable=True, delay_s=0)
    before = whole(dsn, job_id)
    assert jobs.get(job_id).status is Status.ERROR
    assert jobs.retry([job_id]) == [job_id]
    after = whole(dsn, job_id)
    assert (after["attempts"], after["events"]) == (before["attempts"], before["events"])
    job = jobs.get(job_id)
    assert (job.status, job.reason, job.error, job.finished_at) == (Status.QUEUED, None, None, None)
    for tries in (1, 2):
        (held,) = claim(db)
        assert (held.attempt, held.tries) == (2 + tries, tries)
        status = verbs.fail(db, job_id, held.token, error="no", retryable=True, delay_s=0)
        assert status is (Status.QUEUED if tries == 1 else Status.ERROR)


def test_one_that_killed_its_workers_has_a_clean_sheet(db: Database, dsn: str, jobs: Jobs) -> None:
    job_id = add(db, max_attempts=9)
    for _ in range(sweeps.MAX_CRASHES):
        claim(db)
        rewind(dsn, job_id)
        sweeps.reap(db)
    assert jobs.get(job_id).reason is Reason.CRASHED
    jobs.retry([job_id])
    claim(db)
    rewind(dsn, job_id)
    assert [ended.status for ended in sweeps.reap(db)] == [Status.QUEUED]


def test_a_deadline_that_passed_is_lifted_and_another_stays(db: Database, sql: Connection, jobs: Jobs) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    ahead, past = failed(db, deadline_at=later), add(db, deadline_at=later)
    sql.execute("UPDATE llm.jobs SET deadline_at = now() WHERE id = %s", (past,))
    sweeps.expire(db)
    assert jobs.get(past).reason is Reason.DEADLINE_EXCEEDED
    jobs.retry([past, ahead])
    assert (jobs.get(past).deadline_at, jobs.get(ahead).deadline_at) == (None, later)
    assert sweeps.expire(db) == []
    assert {held.job_id for held in claim(db, n=9)} == {past, ahead}


def test_only_errors_are_and_saying_it_twice_is_fine(db: Database, jobs: Jobs) -> None:
    job_id, running = failed(db), lease(db)
    done = lease(db)
    verbs.complete(db, done.job_id, done.token, result="{}")
    waiting = add(db)
    assert jobs.retry([job_id, running.job_id, done.job_id, waiting, uuid4()]) == [job_id]
    assert jobs.retry([job_id]) == []
    assert jobs.get(running.job_id).status is Status.RUNNING
    assert jobs.get(done.job_id).status is Status.DONE


def test_one_that_ended_with_another_is_left_to_that_one(db: Database, sql: Connection, jobs: Jobs) -> None:
    errors(sql, 1, reason="dependency_failed")
    assert list(jobs.retry_errors()) == []


def test_errors_are_chosen_by_reason_and_kind_and_no_more_than_wanted(sql: Connection, jobs: Jobs) -> None:
    errors(sql, 3, reason="crashed")
    errors(sql, 4)
    errors(sql, 5, kind="other")
    assert list(jobs.retry_errors(reason=Reason.CRASHED)) == [3]
    assert list(jobs.retry_errors(kind="other", limit=2)) == [2]
    assert list(jobs.retry_errors()) == [7]
    assert list(jobs.retry_errors()) == []


def test_a_limit_takes_the_oldest(db: Database, jobs: Jobs) -> None:
    first, _ = failed(db), failed(db)
    list(jobs.retry_errors(limit=1))
    assert jobs.get(first).status is Status.QUEUED


def test_many_go_in_batches_and_what_fails_again_meanwhile_is_left(db: Database, sql: Connection, jobs: Jobs) -> None:
    errors(sql, 2500)
    sizes = []
    for n in jobs.retry_errors():
        sizes.append(n)
        held = claim(db)[0]
        verbs.fail(db, held.job_id, held.token, error="again", retryable=False, delay_s=0)
    assert sizes == [1000, 1000, 500]
    assert [job.error for job in jobs.page(status=Status.ERROR)] == ["again"] * 3


def test_what_is_tried_anew_does_not_go_before_all_that_waits(db: Database, sql: Connection, jobs: Jobs) -> None:
    old = failed(db)
    sql.execute("UPDATE llm.jobs SET queued_at = now() - interval '1 h' WHERE id = %s", (old,))
    waiting = add(db)
    jobs.retry([old])
    assert [held.job_id for held in claim(db, n=2)] == [waiting, old]


def test_twenty_who_retry_at_once_do_it_once(db: Database, jobs: Jobs) -> None:
    ids = [failed(db) for _ in range(20)]
    with ThreadPoolExecutor(10) as pool:
        told = list(pool.map(lambda _: jobs.retry(ids), range(20)))
    assert sorted(job_id for one in told for job_id in one) == sorted(ids)


# — requeue —


def test_a_running_job_is_taken_back_and_the_try_does_not_count(db: Database, dsn: str, jobs: Jobs) -> None:
    held = lease(db, max_attempts=1)
    assert jobs.requeue([held.job_id]) == [held.job_id]
    assert jobs.requeue([held.job_id]) == []
    for late in (
        lambda: verbs.complete(db, held.job_id, held.token, result="{}"),
        lambda: verbs.fail(db, held.job_id, held.token, error="e", retryable=False, delay_s=0),
        lambda: events.append(db, held.job_id, held.token, [(1, "delta", "{}")]),
    ):
        with pytest.raises(LeaseLost):
            late()
    assert verbs.heartbeat(db, [(held.job_id, held.token)], lease_s=60) == set()
    (told,) = jobs.attempts(held.job_id)
    assert (told.status, told.reason, told.error, told.worker_id) == (
        *("error", "released", "taken back by an operator", "w"),
    )
    (again,) = claim(db)
    assert (again.job_id, again.attempt, again.tries) == (held.job_id, 2, 1)
    verbs.complete(db, again.job_id, again.token, result="{}")
    assert jobs.get(held.job_id).status is Status.DONE


def test_only_what_runs_is_taken_back(db: Database, dsn: str, jobs: Jobs) -> None:
    waiting, ended = add(db, delay_s=60), failed(db)
    before = [whole(dsn, job_id) for job_id in (waiting, ended)]
    assert jobs.requeue([waiting, ended, uuid4()]) == []
    assert [whole(dsn, job_id) for job_id in (waiting, ended)] == before


def test_its_call_is_cut(begin: Begin, jobs: Jobs) -> None:
    keeper, run = begin(lease_s=60.0)
    cut = threading.Event()
    run.when_cut(cut.set)
    until(lambda: keeper.runtime.listener.hears(JOB_ENDED))
    jobs.requeue([run.lease.job_id])
    assert cut.wait(5)  # the next beat without a notice is ten seconds away
    assert run.was_cut == "lease_lost"


def test_workers_and_watchers_are_told(runtime: Runtime, db: Database, jobs: Jobs) -> None:
    ended, held = failed(db), lease(db)
    listener = runtime.listener
    with (
        listener.subscribe(JOB_QUEUED, "") as claimer,
        listener.subscribe(JOB_ENDED, str(held.job_id)) as worker,
        listener.subscribe("job_update", str(ended)) as watcher,
    ):
        until(lambda: listener.hears(JOB_QUEUED) and watcher.is_set())
        for event in (claimer, worker, watcher):
            event.clear()
        jobs.retry([ended])
        assert claimer.wait(5)
        assert watcher.wait(5)
        claimer.clear()
        jobs.requeue([held.job_id])
        assert worker.wait(5)
        assert claimer.wait(5)


@pytest.mark.parametrize("rival", ["complete", "fail", "cancel", "release"])
def test_of_two_ends_at_once_one_stands(db: Database, dsn: str, jobs: Jobs, rival: str) -> None:
    """Requeue races with the end of the same attempt, many times: each try ends in one way, and both are told so."""
    start = threading.Barrier(2)
    won = 0
    with ThreadPoolExecutor(2) as pool:
        for _ in range(30):
            held = lease(db, max_attempts=1)

            def end(held: Any = held) -> bool:
                start.wait()
                try:
                    match rival:
                        case "complete":
                            verbs.complete(db, held.job_id, held.token, result="{}")
                        case "fail":
                            verbs.fail(db, held.job_id, held.token, error="e", retryable=False, delay_s=0)
                        case "cancel":
                            return job_rows.cancel(db, held.job_id)
                        case _:
                            return bool(verbs.release(db, [(held.job_id, held.token)]))
                except Conflict:
                    return False
                return True

            def take(held: Any = held) -> bool:
                start.wait()
                return bool(jobs.requeue([held.job_id]))

            ended, taken = pool.submit(end), pool.submit(take)
            # A cancel ends also what was queued again.
            assert ended.result() + taken.result() == 1 or (rival == "cancel" and ended.result())
            won += taken.result()
            told = whole(dsn, held.job_id)
            (attempt,) = told["attempts"]
            assert (attempt["error"] == "taken back by an operator") == taken.result()
            job_rows.cancel(db, held.job_id)
            assert claim(db) == []
    assert 0 <= won <= 30


def test_retry_and_a_late_end_leave_one_row_in_one_state(db: Database, jobs: Jobs) -> None:
    """The reaper gave the job up, an operator tries it anew, and its first worker comes back: it changes nothing."""
    held = lease(db, max_attempts=1)
    sweeps.reap(db, gone=["w"])
    assert jobs.get(held.job_id).reason is Reason.LEASE_EXPIRED
    jobs.retry([held.job_id])
    with pytest.raises(LeaseLost):
        verbs.complete(db, held.job_id, held.token, result='"late"')
    (again,) = claim(db)
    with pytest.raises(LeaseLost):
        verbs.complete(db, held.job_id, held.token, result='"late"')
    verbs.complete(db, again.job_id, again.token, result='"mine"')
    assert jobs.get(held.job_id).result == '"mine"'


# — prune —


def test_prune_takes_what_is_old_and_of_that_status(db: Database, sql: Connection, jobs: Jobs) -> None:
    errors(sql, 1500)
    young = failed(db)
    done = lease(db)
    verbs.complete(db, done.job_id, done.token, result="{}")
    sql.execute("UPDATE llm.jobs SET finished_at = now() - interval '3 d' WHERE id <> %s", (young,))
    waiting = add(db)
    assert jobs.prunable(days=2) == 1501
    assert jobs.prunable(days=2, status=Status.ERROR) == 1500
    assert jobs.prunable(days=4) == 0
    assert count(sql) == 1503
    assert list(jobs.prune(days=2, status=Status.ERROR)) == [1000, 500]
    assert {job.id for job in jobs.page()} == {young, done.job_id, waiting}
    assert list(jobs.prune(days=2)) == [1]
    assert sql.execute("SELECT FROM llm.job_attempts WHERE job_id = %s", (done.job_id,)).rowcount == 0
    assert list(jobs.prune(days=0)) == [1]
    assert [job.id for job in jobs.page()] == [waiting]


@pytest.mark.parametrize(
    ("asked", "field"), [({"days": -1}, "days"), ({"days": 1, "status": Status.RUNNING}, "status")]
)
def test_what_cannot_be_pruned_is_refused(jobs: Jobs, asked: dict[str, Any], field: str) -> None:
    for verb in (jobs.prunable, lambda **given: list(jobs.prune(**given))):
        with pytest.raises(InvalidInput) as refused:
            verb(**asked)
        assert refused.value.field == field


# — results with an end —


def finished(db: Database, jobs: Jobs, **more: Any) -> UUID:
    job_id = jobs.submit(Submission(kind="echo", **more))
    (held,) = claim(db)
    assert held.job_id == job_id
    verbs.complete(db, job_id, held.token, result='{"n":1}')
    return job_id


def test_an_expired_result_is_hidden_at_once_and_swept_soon(db: Database, sql: Connection, jobs: Jobs) -> None:
    short, kept = finished(db, jobs, result_ttl_s=3600.0), finished(db, jobs)
    other = finished(db, jobs, result_ttl_s=3600.0)
    assert jobs.get(short).result == '{"n":1}'
    assert Scheduler(jobs.runtime).expire_results() is False
    sql.execute("UPDATE llm.jobs SET result_until = now() WHERE id = %s", (short,))
    assert jobs.get(short).result is None
    Scheduler(jobs.runtime).expire_results()
    rows = sql.execute("SELECT id, result, result_until IS NULL AS over FROM llm.jobs ORDER BY id").fetchall()
    assert [(row["id"], row["result"], row["over"]) for row in rows] == [
        (short, None, True),
        (kept, '{"n":1}', True),
        (other, '{"n":1}', False),
    ]
    job = jobs.get(short)
    assert (job.status, job.result) == (Status.DONE, None)


def test_the_sweep_is_bounded_and_the_leader_does_it(db: Database, sql: Connection, jobs: Jobs) -> None:
    sql.execute(
        "INSERT INTO llm.jobs (id, kind, status, result, result_until, attempts, begun_at, finished_at)"
        " SELECT llm.new_id(), 'echo', 'done', '1', now(), 1, now(), now() FROM generate_series(1, 1200)"
    )
    scheduler = Scheduler(jobs.runtime)
    assert scheduler.expire_results() is True

    def left() -> int:
        return sql.execute("SELECT FROM llm.jobs WHERE result IS NOT NULL").rowcount

    assert left() == 700
    scheduler.start()
    try:
        until(lambda: left() == 0)
    finally:
        scheduler.stop()


def test_a_default_holds_where_the_submission_says_nothing(
    db: Database, sql: Connection, runtime: Runtime, jobs: Jobs
) -> None:
    runtime.settings = runtime.settings.model_copy(update={"result_ttl_s": 60.0})
    said, unsaid = finished(db, jobs, result_ttl_s=5.0), finished(db, jobs)

    def lasts(job_id: UUID) -> float:
        row = sql.execute(
            "SELECT extract(epoch FROM result_until - finished_at)::float8 AS s FROM llm.jobs WHERE id = %s", (job_id,)
        ).fetchone()
        assert row is not None
        return float(row["s"])

    assert lasts(said) == pytest.approx(5, abs=0.5)
    assert lasts(unsaid) == pytest.approx(60, abs=0.5)
