"""Jobs that wait for other jobs: in order, once, whoever finishes first and whatever fails."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import uuid_utils.compat

from llm_mcp import Group, InvalidInput, JobFailed, JobHandle, NotFound, Run, WaitTimeout, actor, chain, group, needs
from llm_mcp.job import Lease, Reason, Status, Submission
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.scheduler import Scheduler
from llm_mcp.store import jobs as job_rows
from llm_mcp.store import leases as verbs
from llm_mcp.store import needs as rows
from llm_mcp.store import sweeps
from llm_mcp.store.listen import JOB_QUEUED, JOB_UPDATE
from llm_mcp.store.pool import Connection, Database, connect
from llm_mcp.store.sql import statements
from llm_mcp.testing import drain
from tests.integration.rows import claim, count, rewind
from tests.waiting import until


@actor("flow.say")
def say(payload: Any) -> Any:
    """Return what it is given."""
    return payload["word"]


@actor("flow.tell")
def tell(payload: Any, run: Run) -> Any:
    """Return what the jobs before it returned."""
    return run.inputs()


@actor("flow.fall", max_attempts=1)
def fall(payload: Any) -> Any:
    """Fail."""
    raise ValueError("no")


KINDS = ["flow.say", "flow.tell", "flow.fall"]


def take(db: Database, n: int = 1) -> list[Lease]:
    return claim(db, kinds=KINDS, n=n)


def finish(db: Database, *leases: Lease) -> list[UUID]:
    """Hand in results as a worker does and return the jobs that have followers; nobody judges those."""
    finished = [verbs.Finished(lease.job_id, lease.token, '"x"') for lease in leases]
    turn = verbs.turn(db, "w", uuid4(), kinds=[], n=0, lease_s=60, ageing_s=600, finished=finished)
    assert turn.finished == len(leases)
    return turn.followed


def blocked(sql: Connection, handle: JobHandle) -> bool:
    row = sql.execute("SELECT blocked FROM llm.jobs WHERE id = %s", (handle.id,)).fetchone()
    assert row is not None
    return bool(row["blocked"])


def edges(sql: Connection) -> int:
    return sql.execute("SELECT FROM llm.job_needs").rowcount


def listed(sql: Connection) -> int:
    return sql.execute("SELECT FROM llm.blocked_jobs").rowcount


def fate(handle: JobHandle) -> tuple[Status, Reason | None]:
    job = handle.job()
    return job.status, job.reason


STOPPED = (Status.ERROR, Reason.DEPENDENCY_FAILED)
WAITS = (Status.QUEUED, None)


# — in order —


def test_it_runs_after_what_it_needs_and_has_the_results_in_the_order_it_named_them(runtime: Runtime) -> None:
    first, second = say.submit(word=1), say.submit(word=2)
    last = tell.submit(after=[second, first.id, second], priority=9)
    assert [job.id for job in drain()] == [first.id, second.id, last.id]
    assert last.wait(timeout=1) == [2, 1, 2]


def test_what_needs_only_finished_jobs_runs_at_once(runtime: Runtime, sql: Connection) -> None:
    first = say.submit(word="done")
    drain()
    last = first.then(tell)
    assert not blocked(sql, last)
    assert listed(sql) == 0
    drain()
    assert last.wait(timeout=1) == ["done"]


def test_a_delay_is_kept(runtime: Runtime, sql: Connection, db: Database) -> None:
    first = say.submit(word=1)
    late, soon = first.then(tell, delay_s=3600), first.then(tell)
    assert drain()[-1].id == soon.id
    assert not blocked(sql, late)
    assert take(db) == []
    waits = sql.execute(
        "SELECT extract(epoch FROM run_at - clock_timestamp()) AS s FROM llm.jobs WHERE id = %s", (late.id,)
    )
    assert 3500 < waits.fetchone()["s"] <= 3600  # type: ignore[index] # it is there
    ready = soon.job()
    assert ready.run_at > ready.queued_at  # it waits for a worker from there on


def test_a_chain_is_written_whole_and_runs_in_its_order(runtime: Runtime) -> None:
    last = chain(say.prepare(word="a"), tell.prepare(), tell.prepare(priority=9))
    assert [job.kind for job in drain()] == ["flow.say", "flow.tell", "flow.tell"]
    assert last.wait(timeout=1) == [["a"]]


def test_whatever_comes_next_may_need_others_too(runtime: Runtime) -> None:
    other = say.submit(word="other", priority=-1)
    last = chain(say.prepare(word="one"), tell.prepare(after=[other]))
    then = say.submit(word="two").then(tell, after=[other])
    drain()
    assert last.wait(timeout=1) == ["other", "one"]
    assert then.wait(timeout=1) == ["two", "other"]


def test_a_chain_submitted_again_is_the_same_chain(runtime: Runtime, sql: Connection) -> None:
    first, second = (
        chain(say.prepare(word=1, idempotency_key="a"), tell.prepare(idempotency_key="b")) for _ in range(2)
    )
    assert first.id == second.id
    assert (count(sql), edges(sql), listed(sql)) == (2, 1, 1)
    parts = (say.prepare(word=1, idempotency_key="a"), tell.prepare(idempotency_key="b"), tell.prepare())
    third = chain(*parts)  # the key's own job is what it needs
    assert (count(sql), edges(sql), listed(sql)) == (3, 2, 2)
    drain()
    assert third.wait(timeout=1) == [[1]]


def test_a_group_and_then(runtime: Runtime) -> None:
    many = group(*(say.prepare(word=n) for n in range(3)))
    last = many.then(tell, after=[(extra := say.submit(word="extra"))])
    assert many.status() == {Status.QUEUED: 3, Status.RUNNING: 0, Status.DONE: 0, Status.ERROR: 0}
    with pytest.raises(WaitTimeout, match=r"not all of 3 jobs are finished after 0\.01 s"):
        many.wait(timeout=0.01)
    drain()
    assert many.wait(timeout=1) == [0, 1, 2]
    assert many.status()[Status.DONE] == 3
    assert last.wait(timeout=1) == [0, 1, 2, "extra"]
    assert Group([extra, last]).wait(timeout=1) == ["extra", [0, 1, 2, "extra"]]
    assert group().wait(timeout=0) == []


def test_a_group_tells_of_the_first_that_failed_once_all_are_finished(runtime: Runtime) -> None:
    many = group(say.prepare(word=1), fall.prepare(), say.prepare(word=2))
    drain(kinds=["flow.fall"])
    with pytest.raises(WaitTimeout):
        many.wait(timeout=0.05)
    drain()
    with pytest.raises(JobFailed, match="ValueError: no") as raised:
        many.wait(timeout=1)
    assert raised.value.reason == "failed"
    with pytest.raises(NotFound):
        Group([*many.handles[:1], JobHandle(Jobs(runtime), uuid4())]).wait(timeout=1)


def test_a_thousand_side_by_side(runtime: Runtime, sql: Connection) -> None:
    many = group(*(say.prepare(word=n) for n in range(1000)))
    last = many.then(tell)
    assert edges(sql) == 1000
    drain()
    assert last.wait(timeout=1) == many.wait(timeout=1) == list(range(1000))
    with pytest.raises(InvalidInput) as raised:
        many.then(tell, after=[last])
    assert raised.value.field == "after"


# — whoever is first —


def test_of_two_that_finish_at_once_one_lets_the_follower_go(runtime: Runtime, db: Database, sql: Connection) -> None:
    with ThreadPoolExecutor(2) as pool:
        for _ in range(60):
            both = [say.submit(word=1), say.submit(word=2)]
            last = tell.submit(after=both)
            leases = take(db, 2)
            gate = threading.Barrier(2)

            def end(lease: Lease, gate: threading.Barrier = gate) -> None:
                gate.wait(5)
                needs.advance(runtime, finish(db, lease))

            for done in [pool.submit(end, lease) for lease in leases]:
                done.result(10)
            assert not blocked(sql, last)
            assert [lease.job_id for lease in take(db, 2)] == [last.id]


def test_who_finishes_before_it_is_there_and_commits_after_is_waited_for(
    runtime: Runtime, dsn: str, db: Database, sql: Connection
) -> None:
    first = say.submit(word=1)
    (lease,) = take(db)
    with connect(dsn, autocommit=False) as worker, ThreadPoolExecutor(1) as pool:
        # As the turn does: lock, look for followers (there are none), and commit a little later.
        worker.execute("SELECT FROM llm.jobs WHERE id = %s FOR UPDATE", (first.id,))
        row = worker.execute("SELECT llm.followed(%s) AS followed", ([first.id],)).fetchone()
        assert row == {"followed": []}
        submitted = pool.submit(first.then, tell)
        until(lambda: listed(sql) == 1)
        worker.execute(
            "UPDATE llm.jobs SET status = 'done', lease_token = NULL, lease_until = NULL, finished_at = now()"
            " WHERE lease_token = %s",
            (lease.token,),
        )
        until(lambda: sql.execute("SELECT FROM pg_locks WHERE NOT granted").rowcount)
        worker.commit()
        assert not blocked(sql, submitted.result(10))


def test_who_is_finishing_sees_a_follower_that_came_after_it_began(
    runtime: Runtime, dsn: str, db: Database, sql: Connection
) -> None:
    first = say.submit(word=1)
    (lease,) = take(db)
    with connect(dsn, autocommit=False) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT FROM llm.jobs WHERE id = %s FOR NO KEY UPDATE", (first.id,))
        followed = pool.submit(finish, db, lease)  # its statement began, and waits for the row
        until(lambda: sql.execute("SELECT FROM pg_locks WHERE NOT granted").rowcount)
        last = first.then(tell)
        other.rollback()
        assert followed.result(10) == [first.id]
    assert blocked(sql, last)
    assert needs.advance(runtime, [first.id]) is True
    assert not blocked(sql, last)


def test_jobs_nobody_needs_are_not_told_of(runtime: Runtime, db: Database) -> None:
    say.submit(word=1), (needed := say.submit(word=2)).then(tell)
    assert finish(db, *take(db, 2)) == [needed.id]


# — what fails —


def test_it_ends_with_what_it_needs_and_so_do_its_followers(runtime: Runtime, sql: Connection) -> None:
    bad, waiting = fall.submit(), say.submit(word=1, delay_s=3600)
    first = tell.submit(after=[waiting, bad])
    second = first.then(tell)
    anyway = second.then(tell, after_error="run")
    drain()
    assert fate(bad) == (Status.ERROR, Reason.FAILED)
    assert fate(first) == fate(second) == STOPPED  # though one it needs may still be done
    assert first.job().error == f"job {bad.id}, which it needed, ended in error"
    assert second.job().error == f"job {first.id}, which it needed, ended in error"
    assert anyway.wait(timeout=1) == [None]
    assert listed(sql) == 0
    with pytest.raises(JobFailed) as raised:
        second.wait(timeout=1)
    assert raised.value.reason == "dependency_failed"


def test_what_runs_in_any_case_waits_all_the_same(runtime: Runtime) -> None:
    anyway = tell.submit(after=[fall.submit(), (slow := say.submit(word=1, delay_s=3600))], after_error="run")
    drain()
    assert fate(anyway) == WAITS
    slow.cancel()
    drain()
    assert anyway.wait(timeout=1) == [None, None]


def test_a_need_that_failed_before(runtime: Runtime) -> None:
    bad = fall.submit()
    drain()
    assert fate(bad.then(tell)) == STOPPED
    assert fate(bad.then(tell, after_error="run")) == WAITS
    assert [job.kind for job in drain()] == ["flow.tell"]


def test_cancelling_one_ends_those_that_need_it(runtime: Runtime) -> None:
    first = say.submit(word=1)
    stops, runs = first.then(tell), first.then(tell, after_error="run")
    first.cancel()
    assert fate(stops) == STOPPED
    drain()
    assert runs.wait(timeout=1) == [None]


def test_one_that_waits_can_be_cancelled_and_its_deadline_counts(runtime: Runtime, sql: Connection) -> None:
    first = say.submit(word=1)
    cancelled, late = first.then(tell), first.then(tell)
    after_it = [cancelled.then(tell), late.then(tell)]
    cancelled.cancel()
    sql.execute("UPDATE llm.jobs SET deadline_at = now() WHERE id = %s", (late.id,))
    Scheduler(runtime).sweep()
    assert fate(late) == (Status.ERROR, Reason.DEADLINE_EXCEEDED)
    assert [fate(handle) for handle in after_it] == [STOPPED] * 2
    assert [job.id for job in drain()] == [first.id]


def test_a_need_whose_worker_was_lost_for_good(runtime: Runtime, db: Database, dsn: str) -> None:
    first = say.submit(word=1, max_attempts=1)
    last = first.then(tell)
    take(db)
    rewind(dsn, first.id)
    Scheduler(runtime).sweep()
    assert fate(first) == (Status.ERROR, Reason.LEASE_EXPIRED)
    assert fate(last) == STOPPED


def test_one_that_is_tried_again_by_hand_waits_again(runtime: Runtime, jobs: Jobs, sql: Connection) -> None:
    first = say.submit(word=1)
    last = first.then(tell)
    last.cancel()
    needs.Backstop(runtime).look()
    assert listed(sql) == 0
    assert jobs.retry([last.id]) == [last.id]
    assert blocked(sql, last)
    assert listed(sql) == 1
    drain()
    assert last.wait(timeout=1) == [1]


def test_a_long_line_ends_at_once(runtime: Runtime, db: Database) -> None:
    handles = [say.submit(word=1)]
    handles += [JobHandle(Jobs(runtime), uuid_utils.compat.uuid7()) for _ in range(300)]
    Jobs(runtime).submit_many(
        Submission(kind="flow.tell", id=one.id, after=(before.id,)) for before, one in pairwise(handles)
    )
    assert job_rows.cancel(db, handles[0].id)
    moved = rows.advance(db, needed=[handles[0].id])
    assert len(moved) == 300
    assert {fate(handle) for handle in handles[1:]} == {STOPPED}


def test_workers_and_watchers_are_told(runtime: Runtime, db: Database) -> None:
    first, bad = say.submit(word=1), say.submit(word=2)
    first.then(tell), (stopped := bad.then(tell))
    heard: list[str] = []
    listener = runtime.listener
    listener.hear(JOB_UPDATE, heard.append)
    with listener.subscribe(JOB_QUEUED, "") as worker:
        until(lambda: listener.hears(JOB_QUEUED) and listener.hears(JOB_UPDATE))
        runtime.announce(bad.id)  # what was sent before has come when this has
        until(lambda: str(bad.id) in heard)
        worker.clear()
        assert job_rows.cancel(db, bad.id)
        assert needs.advance(runtime, [bad.id]) is False
        until(lambda: str(stopped.id) in heard)
        assert not worker.is_set()
        finish(db, *take(db))
        assert needs.advance(runtime, [first.id]) is True
        assert worker.wait(5)


def test_judging_costs_what_is_judged_in_tables_nobody_analyzed_yet(
    runtime: Runtime, db: Database, sql: Connection
) -> None:
    hub = say.submit(word=1)
    for _ in range(4):
        group(*(tell.prepare(after=[hub]) for _ in range(1000)))
    for table in ("llm.jobs", "llm.job_needs"):
        sql.execute("DELETE FROM pg_statistic WHERE starelid = %s::regclass", (table,))
        sql.execute("UPDATE pg_class SET relpages = 0, reltuples = -1 WHERE oid = %s::regclass", (table,))
    page = rows.blocked(db, after=UUID(int=0), n=100)
    asked = {"needed": [], "job_ids": page, "n": 5000}
    found = sql.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statements()["advance"], asked, prepare=False)
    assert found.fetchone()["QUERY PLAN"][0]["Plan"]["Shared Hit Blocks"] < 30 * len(page)  # type: ignore[index] # it is there


# — the backstop —


def test_a_worker_that_died_between_the_result_and_the_judging_is_made_good(
    runtime: Runtime, db: Database, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_mcp.needs._PAGE", 2)
    never = say.submit(word="never", delay_s=3600)
    waiting = [never.then(tell) for _ in range(3)]
    first = say.submit(word=1)
    followers = [first.then(tell) for _ in range(5)]
    finish(db, *take(db))
    assert all(blocked(sql, handle) for handle in followers)
    scheduler = Scheduler(runtime)
    scheduler.start()
    try:
        until(lambda: not any(blocked(sql, handle) for handle in followers))
    finally:
        scheduler.stop()
    assert all(blocked(sql, handle) for handle in waiting)
    assert listed(sql) == 3


def test_the_backstop_goes_round_a_stretch_at_a_time(
    runtime: Runtime, db: Database, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_mcp.needs._PAGE", 2)
    monkeypatch.setattr("llm_mcp.needs._LOOK_S", 0.0)
    first, never = say.submit(word=1), say.submit(word=2, delay_s=3600)
    handles = [(never if n < 3 else first).then(tell) for n in range(4)]
    finish(db, *take(db))
    backstop = needs.Backstop(runtime)
    backstop.look()
    assert [blocked(sql, handle) for handle in handles] == [True] * 4
    backstop.look()
    assert [blocked(sql, handle) for handle in handles] == [True, True, True, False]
    sql.execute("UPDATE llm.jobs SET status = 'done', finished_at = now() WHERE id = %s", (never.id,))
    backstop.look()  # nothing is left of this round
    backstop.look()
    assert [blocked(sql, handle) for handle in handles] == [False, False, True, False]


def test_what_is_missed_while_the_database_is_away_does_not_fail_who_finished(
    runtime: Runtime, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    first = say.submit(word=1)
    last = first.then(tell)
    with monkeypatch.context() as patch:
        patch.setattr("llm_mcp.store.needs.advance", broken)
        assert [job.id for job in drain()] == [first.id]
        first.then(tell)
    assert blocked(sql, last)
    needs.Backstop(runtime).look()
    drain()
    assert last.wait(timeout=1) == [1]


# — what is gone —


def test_what_an_unfinished_job_needs_is_not_pruned(runtime: Runtime, db: Database, sql: Connection) -> None:
    old, other = say.submit(word="old"), say.submit(word="other", delay_s=3600)
    last = tell.submit(after=[old, other])
    drain()
    sql.execute("UPDATE llm.jobs SET finished_at = now() - interval '9 days' WHERE id = %s", (old.id,))
    assert sweeps.prunable(db, days=7, status=None) == 0
    assert sweeps.prune(db, days=7) == sweeps.prune_some(db, days=7, status=None, n=9) == 0
    sql.execute("UPDATE llm.jobs SET run_at = now() WHERE id = %s", (other.id,))
    drain()
    assert last.wait(timeout=1) == ["old", "other"]
    assert sweeps.prune(db, days=7) == 1
    assert edges(sql) == 2
    sql.execute("UPDATE llm.jobs SET finished_at = now() - interval '9 days'")
    assert sweeps.prune_some(db, days=7, status=None, n=9) == 2
    assert edges(sql) == 0


def test_a_need_that_is_gone_was_done(runtime: Runtime, sql: Connection) -> None:
    first = say.submit(word=1)
    last = first.then(tell)
    sql.execute("DELETE FROM llm.jobs WHERE id = %s", (first.id,))
    needs.Backstop(runtime).look()
    drain()
    assert last.wait(timeout=1) == [None]


def test_a_result_that_is_kept_no_more_is_none(runtime: Runtime, sql: Connection) -> None:
    first = say.submit(word=1)
    last = first.then(tell)
    drain(kinds=["flow.say"])
    sql.execute("UPDATE llm.jobs SET result_until = now() WHERE id = %s", (first.id,))
    drain()
    assert last.wait(timeout=1) == [None]


# — in a transaction —


def test_nothing_is_left_of_a_transaction_that_was_rolled_back(runtime: Runtime, dsn: str, sql: Connection) -> None:
    outside = say.submit(word=0)
    with connect(dsn, autocommit=False) as conn:
        last = chain(say.prepare(word=1), tell.prepare(after=[outside]), conn=conn)
        group(say.prepare(word=2), conn=conn).then(tell, conn=conn)
        last.then(tell, conn=conn)
        conn.rollback()
    assert (count(sql), edges(sql), listed(sql)) == (1, 0, 0)


def test_all_of_it_works_in_a_transaction(runtime: Runtime, dsn: str, sql: Connection, db: Database) -> None:
    done, running = say.submit(word=0), say.submit(word=1)
    drain_one, lease = take(db, 2)
    finish(db, drain_one)
    with connect(dsn, autocommit=False) as conn:
        at_once = done.then(tell, conn=conn)
        waits = running.then(tell, conn=conn)
        needs.advance(runtime, finish(db, lease))  # nobody can see who waits yet
        conn.commit()
    assert not blocked(sql, at_once)
    assert blocked(sql, waits)
    needs.Backstop(runtime).look()
    drain()
    assert waits.wait(timeout=1) == ["x"]


# — what is refused —


def test_a_job_that_is_not_there_cannot_be_needed(runtime: Runtime, jobs: Jobs, sql: Connection) -> None:
    there, mine, later = say.submit(word=1), uuid4(), uuid4()
    with pytest.raises(InvalidInput, match="names no job that is there") as raised:
        tell.submit(after=[there, uuid4()])
    assert raised.value.field == "after[1]"
    for batch, field in [
        ([Submission(kind="flow.tell"), Submission(kind="flow.tell", after=(there.id, uuid4()))], "[1].after[1]"),
        ([Submission(kind="flow.tell", id=mine, after=(mine,))], "[0].after[0]"),
        (
            [
                Submission(kind="flow.tell", id=mine, after=(later,)),
                Submission(kind="flow.tell", id=later, after=(mine,)),
            ],
            "[0].after[0]",
        ),
    ]:
        with pytest.raises(InvalidInput) as raised:
            jobs.submit_many(batch)
        assert raised.value.field == field
    assert (count(sql), edges(sql), listed(sql)) == (1, 0, 0)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"after": "abc"}, "after"),
        ({"after": 7}, "after"),
        ({"after": ["abc"]}, "after[0]"),
        ({"after": [uuid4()] * 1001}, "after"),
        ({"after_error": "ignore"}, "after_error"),
    ],
)
def test_what_is_no_list_of_jobs_is_refused_by_name(
    runtime: Runtime, sql: Connection, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        tell.submit(**options)
    assert raised.value.field == field
    assert count(sql) == 0


def test_the_service_checks_what_comes_without_an_actor(jobs: Jobs) -> None:
    wrong: Any = "abc"
    for submission, field in [
        (Submission(kind="flow.tell", after=(wrong,)), "after[0]"),
        (Submission(kind="flow.tell", id=wrong), "id"),
    ]:
        with pytest.raises(InvalidInput) as raised:
            jobs.submit(submission)
        assert raised.value.field == field
    with pytest.raises(InvalidInput, match="one job or more"):
        chain()


def test_a_refusal_leaves_the_transaction_to_its_owner(runtime: Runtime, dsn: str) -> None:
    """As every error of a statement does: it is the caller's to roll back."""
    with connect(dsn, autocommit=False) as conn:
        with pytest.raises(InvalidInput):
            tell.submit(after=[uuid4()], conn=conn)
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            conn.execute("SELECT 1")
        conn.rollback()
