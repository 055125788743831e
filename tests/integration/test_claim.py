"""Who gets which job, and what becomes of leases that end, deadlines that pass and workers that leave."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from llm_mcp.job import Reason, Status
from llm_mcp.jobs import Jobs
from llm_mcp.store import leases as verbs
from llm_mcp.store import sweeps, workers
from llm_mcp.store.pool import Connection, Database
from tests.integration.rows import add, alive, claim, lease, report, rewind, whole


def order(db: Database, n: int = 1) -> list[str]:
    """Claim everything, n at a time, and return the payloads in the order they came."""
    came: list[str] = []
    while batch := claim(db, n=n):
        came += [held.payload for held in batch]
    return came


def age(sql: Connection, seconds: float, payload: str) -> None:
    sql.execute(
        "UPDATE llm.jobs SET queued_at = queued_at - make_interval(secs => %s) WHERE payload = %s", (seconds, payload)
    )


# — order —


@pytest.mark.parametrize("n", [1, 2, 10])
def test_the_highest_priority_first_then_the_oldest(db: Database, n: int) -> None:
    for payload, priority in (('"c"', 0), ('"a"', 5), ('"d"', 0), ('"e"', -3), ('"b"', 5)):
        add(db, payload=payload, priority=priority)
    assert order(db, n) == ['"a"', '"b"', '"c"', '"d"', '"e"']


@pytest.mark.parametrize("n", [1, 2, 10])
def test_past_the_ageing_bound_priority_is_silent(db: Database, sql: Connection, n: int) -> None:
    for payload, priority in (("1", 9), ("2", -5), ("3", 5), ("4", 0), ("5", 6)):
        add(db, payload=payload, priority=priority)
    age(sql, 601, "2")
    age(sql, 602, "3")
    age(sql, 603, "4")
    age(sql, 599, "5")
    assert order(db, n) == ["4", "3", "2", "1", "5"]


def test_a_retry_goes_back_to_the_head(db: Database) -> None:
    first, _ = add(db, payload="1"), add(db, payload="2")
    (held,) = claim(db)
    verbs.fail(db, first, held.token, error="no", retryable=True, delay_s=0)
    assert order(db) == ["1", "2"]


def test_a_claim_takes_what_was_asked_for_and_no_more(db: Database, sql: Connection) -> None:
    for n in range(7):
        add(db, payload=str(n), priority=n % 2)
    age(sql, 601, "6")
    assert len(claim(db, n=3)) == 3
    assert len(claim(db, n=10)) == 4
    assert claim(db, n=10) == []


def test_only_kinds_that_were_asked_for(db: Database) -> None:
    add(db, kind="other")
    mine = add(db, kind="echo")
    assert [held.job_id for held in claim(db, n=9, kinds=["echo", "unheard.of"])] == [mine]
    assert claim(db, n=9, kinds=[]) == []


def test_a_lease_says_what_the_worker_must_know(db: Database) -> None:
    job_id = add(db, payload='{"n":1}', max_attempts=5)
    (held,) = claim(db)
    assert (held.job_id, held.kind, held.payload) == (job_id, "echo", '{"n":1}')
    assert (held.attempt, held.tries, held.max_attempts, held.seconds_left) == (1, 1, 5, None)


def test_thirty_threads_share_out_every_job_once(db: Database) -> None:
    ids = {add(db, priority=n % 3) for n in range(150)}

    def work(number: int) -> list[object]:
        mine: list[object] = []
        while batch := claim(db, f"w{number}", n=1 + number % 4):
            mine += [held.job_id for held in batch]
        return mine

    with ThreadPoolExecutor(30) as pool:
        shares = list(pool.map(work, range(30)))
    taken = [job_id for share in shares for job_id in share]
    assert len(taken) == 150
    assert set(taken) == ids


def test_a_locked_row_is_stepped_over(db: Database, dsn: str) -> None:
    first, second = add(db), add(db)
    with psycopg.connect(dsn) as other:
        other.execute("SELECT FROM llm.jobs WHERE id = %s FOR UPDATE", (first,))
        assert [held.job_id for held in claim(db, n=5)] == [second]
    assert [held.job_id for held in claim(db, n=5)] == [first]


# — delays and deadlines —


def test_a_delayed_job_waits_for_its_time(db: Database, sql: Connection) -> None:
    job_id = add(db, delay_s=3600.0)
    assert claim(db) == []
    sql.execute("UPDATE llm.jobs SET run_at = now() WHERE id = %s", (job_id,))
    assert [held.job_id for held in claim(db)] == [job_id]


def test_an_expired_job_is_never_handed_out(db: Database, sql: Connection, jobs: Jobs) -> None:
    job_id = add(db)
    sql.execute("UPDATE llm.jobs SET deadline_at = now() - interval '1 ms' WHERE id = %s", (job_id,))
    assert claim(db) == []
    assert [(ended.job_id, ended.status) for ended in sweeps.expire(db)] == [(job_id, Status.ERROR)]
    job = jobs.get(job_id)
    assert (job.status, job.reason, job.error) == (Status.ERROR, Reason.DEADLINE_EXCEEDED, "the deadline passed")
    assert jobs.attempts(job_id) == []


def test_a_running_job_is_ended_at_its_deadline(db: Database, sql: Connection, jobs: Jobs) -> None:
    job_id = add(db)
    sql.execute("UPDATE llm.jobs SET deadline_at = now() + interval '1 h' WHERE id = %s", (job_id,))
    (held,) = claim(db)
    assert held.seconds_left == pytest.approx(3600, abs=5)
    assert sweeps.expire(db) == []
    sql.execute("UPDATE llm.jobs SET deadline_at = now() WHERE id = %s", (job_id,))
    assert len(sweeps.expire(db)) == 1
    assert jobs.get(job_id).reason is Reason.DEADLINE_EXCEEDED
    assert [(a.status, a.reason) for a in jobs.attempts(job_id)] == [("error", "deadline_exceeded")]
    assert verbs.heartbeat(db, [(job_id, held.token)], lease_s=30) == set()


def test_finished_jobs_do_not_expire(db: Database, sql: Connection) -> None:
    held = lease(db)
    verbs.complete(db, held.job_id, held.token, result="{}")
    sql.execute("UPDATE llm.jobs SET deadline_at = now() - interval '1 h'")
    assert sweeps.expire(db) == []


# — a lost reply —


def test_a_lost_reply_is_asked_again(db: Database) -> None:
    add(db), add(db), add(db)
    claim_id = uuid4()
    taken = verbs.claim(db, "w", claim_id, kinds=["echo"], n=2, lease_s=30, ageing_s=600)
    claim(db, "w")
    assert {held.token for held in verbs.claimed(db, "w", claim_id)} == {held.token for held in taken}
    assert verbs.claimed(db, "other", claim_id) == []
    assert verbs.claimed(db, "w", uuid4()) == []


def test_what_was_settled_meanwhile_is_not_handed_out_again(db: Database) -> None:
    add(db), add(db)
    claim_id = uuid4()
    done, kept = verbs.claim(db, "w", claim_id, kinds=["echo"], n=2, lease_s=30, ageing_s=600)
    verbs.complete(db, done.job_id, done.token, result="{}")
    assert [held.token for held in verbs.claimed(db, "w", claim_id)] == [kept.token]


# — lost leases —


def crash(db: Database, dsn: str) -> Status:
    """Claim the one job, lose the lease, reap; return where the job went."""
    (held,) = claim(db)
    rewind(dsn, held.job_id)
    (ended,) = sweeps.reap(db)
    assert ended.job_id == held.job_id
    return ended.status


def test_a_lost_lease_ends_the_attempt_and_the_job_goes_on(db: Database, dsn: str, jobs: Jobs) -> None:
    job_id = add(db)
    assert sweeps.reap(db) == []
    assert crash(db, dsn) is Status.QUEUED
    job = jobs.get(job_id)
    assert (job.status, job.reason, job.worker_id, job.lease_until) == (Status.QUEUED, None, None, None)
    assert job.error == "the lease of worker w ended"
    assert [(a.status, a.reason, a.error) for a in jobs.attempts(job_id)] == [("error", "lease_expired", job.error)]
    (held,) = claim(db)
    assert (held.attempt, held.tries) == (2, 2)


def test_a_lease_that_still_runs_is_left_alone(db: Database) -> None:
    held = lease(db)
    assert sweeps.reap(db) == []
    assert verbs.heartbeat(db, [(held.job_id, held.token)], lease_s=30) == {held.token}


@pytest.mark.parametrize(
    ("max_attempts", "ends", "reason"),
    [
        (1, [Status.ERROR], Reason.LEASE_EXPIRED),
        (-5, [Status.ERROR], Reason.LEASE_EXPIRED),
        (2, [Status.QUEUED, Status.ERROR], Reason.LEASE_EXPIRED),
        (3, [Status.QUEUED, Status.QUEUED, Status.ERROR], Reason.CRASHED),
        (9, [Status.QUEUED, Status.QUEUED, Status.ERROR], Reason.CRASHED),
    ],
)
def test_tries_end_and_a_pill_that_kills_its_worker_ends_at_the_third(
    db: Database, dsn: str, jobs: Jobs, max_attempts: int, ends: list[Status], reason: Reason
) -> None:
    job_id = add(db, max_attempts=max_attempts)
    assert [crash(db, dsn) for _ in ends] == ends
    job = jobs.get(job_id)
    assert (job.status, job.reason, job.attempts) == (Status.ERROR, reason, len(ends))
    assert claim(db) == []


def test_only_crashes_in_a_row_make_a_pill(db: Database, dsn: str, jobs: Jobs) -> None:
    job_id = add(db, max_attempts=9)
    assert crash(db, dsn) is crash(db, dsn) is Status.QUEUED
    (held,) = claim(db)
    verbs.fail(db, job_id, held.token, error="no", retryable=True, delay_s=0)
    assert crash(db, dsn) is crash(db, dsn) is Status.QUEUED
    (held,) = claim(db)
    verbs.release(db, [(job_id, held.token)])  # no crash, but no proof of health either
    assert crash(db, dsn) is Status.ERROR
    assert jobs.get(job_id).reason is Reason.CRASHED


@pytest.mark.parametrize("why", ["session", "seen", "left"])
def test_who_lost_its_lease_was_not_always_killed(
    db: Database, dsn: str, sql: Connection, jobs: Jobs, why: str
) -> None:
    """It has the session that would have ended with it, or said since that it lives, or left in good order."""
    job_id = add(db, max_attempts=4)
    assert crash(db, dsn) is crash(db, dsn) is Status.QUEUED
    claim(db)
    report(db, "w", None)
    with alive(dsn, db, "w") if why == "session" else contextlib.nullcontext():
        if why == "left":
            workers.stopped(db, "w")
        sql.execute("UPDATE llm.jobs SET lease_until = now()")
        if why == "seen":
            report(db, "w", None)
        assert [ended.status for ended in sweeps.reap(db)] == [Status.QUEUED]
    claim(db)
    report(db, "w", None)
    sql.execute("UPDATE llm.jobs SET lease_until = now()")
    assert sweeps.reap(db, missing=["w"]) == []
    assert [ended.status for ended in sweeps.reap(db)] == [Status.ERROR]
    assert jobs.get(job_id).reason is Reason.CRASHED


def test_a_released_try_does_not_count(db: Database, dsn: str, jobs: Jobs) -> None:
    job_id = add(db, max_attempts=1)
    for turn in range(1, 4):
        (held,) = claim(db)
        assert (held.attempt, held.tries) == (turn, 1)
        assert verbs.release(db, [(job_id, held.token)]) == {held.token}
        assert jobs.get(job_id).status is Status.QUEUED
    (held,) = claim(db)
    assert verbs.fail(db, job_id, held.token, error="no", retryable=True, delay_s=0) is Status.ERROR
    assert [a.reason for a in jobs.attempts(job_id)] == ["released", "released", "released", "failed"]


def test_a_released_try_leaves_as_many_tries_as_before(db: Database) -> None:
    job_id = add(db, max_attempts=2)
    (held,) = claim(db)
    verbs.release(db, [(job_id, held.token)])
    ends = []
    for _ in range(2):
        (held,) = claim(db)
        ends.append(verbs.fail(db, job_id, held.token, error="no", retryable=True, delay_s=0))
    assert ends == [Status.QUEUED, Status.ERROR]


def test_a_lease_beyond_any_that_was_given_has_ended(db: Database, sql: Connection) -> None:
    """The server's clock was set back by a day: without this its dead workers would hold their jobs as long."""
    held, fine = lease(db), lease(db)
    sql.execute("UPDATE llm.jobs SET lease_until = now() + interval '1 day' WHERE id = %s", (held.job_id,))
    sql.execute("UPDATE llm.jobs SET lease_until = now() + interval '1 h' WHERE id = %s", (fine.job_id,))
    assert [ended.job_id for ended in sweeps.reap(db)] == [held.job_id]


def test_sweeps_are_bounded(db: Database, sql: Connection) -> None:
    for _ in range(sweeps.SWEEP + 5):
        add(db)
    claim(db, n=sweeps.SWEEP + 5)
    sql.execute("UPDATE llm.jobs SET lease_until = now() - interval '1 s'")
    assert len(sweeps.reap(db)) == sweeps.SWEEP
    assert len(sweeps.reap(db)) == 5
    sql.execute("UPDATE llm.jobs SET deadline_at = now() - interval '1 s'")
    assert len(sweeps.expire(db)) == sweeps.SWEEP
    assert len(sweeps.expire(db)) == 5


# — how attempts end —


def test_failures_retry_with_a_delay_and_end_at_the_last_try(db: Database, sql: Connection, jobs: Jobs) -> None:
    job_id = add(db, max_attempts=2)
    (held,) = claim(db)
    assert verbs.fail(db, job_id, held.token, error="first", retryable=True, delay_s=60) is Status.QUEUED
    job = jobs.get(job_id)
    assert (job.status, job.reason, job.error, job.finished_at) == (Status.QUEUED, None, "first", None)
    assert claim(db) == []
    sql.execute("UPDATE llm.jobs SET run_at = now()")
    (held,) = claim(db)
    assert verbs.fail(db, job_id, held.token, error="second", retryable=True, delay_s=60) is Status.ERROR
    job = jobs.get(job_id)
    assert (job.status, job.reason, job.error) == (Status.ERROR, Reason.FAILED, "second")
    assert job.finished_at is not None
    assert [a.error for a in jobs.attempts(job_id)] == ["first", "second"]


def test_what_another_try_cannot_help_ends_at_once(db: Database, jobs: Jobs) -> None:
    held = lease(db, max_attempts=9)
    assert verbs.fail(db, held.job_id, held.token, error="no", retryable=False, delay_s=0) is Status.ERROR
    assert jobs.get(held.job_id).reason is Reason.FAILED


def test_a_done_job_keeps_the_error_of_an_earlier_try(db: Database, dsn: str, jobs: Jobs) -> None:
    job_id = add(db)
    (held,) = claim(db)
    verbs.fail(db, job_id, held.token, error="hiccup", retryable=True, delay_s=0)
    (held,) = claim(db)
    verbs.complete(db, job_id, held.token, result='{"ok":true}', metrics='{"ms":3}')
    job = jobs.get(job_id)
    assert (job.status, job.reason, job.result, job.error) == (Status.DONE, None, '{"ok":true}', "hiccup")
    assert [(a["status"], a["metrics"]) for a in whole(dsn, job_id)["attempts"]] == [
        ("error", "{}"),
        ("done", '{"ms":3}'),
    ]


def test_old_jobs_are_pruned_with_their_attempts_and_young_or_open_ones_stay(db: Database, sql: Connection) -> None:
    old, young = lease(db), lease(db)
    for held in (old, young):
        verbs.complete(db, held.job_id, held.token, result="{}")
    waiting = add(db)
    sql.execute("UPDATE llm.jobs SET queued_at = now() - interval '9 days'")
    sql.execute("UPDATE llm.jobs SET finished_at = now() - interval '8 days' WHERE id = %s", (old.job_id,))
    assert sweeps.prune(db, days=7) == 1
    left = {row["id"] for row in sql.execute("SELECT id FROM llm.jobs")}
    assert left == {young.job_id, waiting}
    assert sql.execute("SELECT FROM llm.job_attempts WHERE job_id = %s", (old.job_id,)).rowcount == 0


def test_pruning_goes_by_batches(db: Database) -> None:
    for _ in range(3):
        held = lease(db)
        verbs.complete(db, held.job_id, held.token, result="{}")
    assert [sweeps.prune(db, days=0, n=2) for _ in range(3)] == [2, 1, 0]
