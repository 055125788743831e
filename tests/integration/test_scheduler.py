"""Periodic duties: one leader, and nothing it meets ends it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_mcp import config
from llm_mcp.errors import SetupError
from llm_mcp.job import Reason, Status
from llm_mcp.jobs import Jobs
from llm_mcp.keeper import Keeper
from llm_mcp.runtime import Runtime
from llm_mcp.scheduler import Scheduler
from llm_mcp.schedules import Schedules
from llm_mcp.store import jobs as job_rows
from llm_mcp.store import leases as verbs
from llm_mcp.store import sweeps
from llm_mcp.store.leader import Leadership
from llm_mcp.store.listen import JOB_ENDED, JOB_QUEUED
from llm_mcp.store.pool import Connection, Database
from tests.integration.proxy import Proxy
from tests.integration.rows import add, alive, claim, lease, report, rewind
from tests.waiting import until

Open = Callable[..., Scheduler]


@pytest.fixture
def schedule(dsn: str, tmp_path: Path) -> Iterator[Open]:
    stop: list[Callable[[], None]] = []

    def start(db_dsn: str = dsn, **settings: Any) -> Scheduler:
        runtime = Runtime(config.load(**{"db_dsn": db_dsn, "data_dir": tmp_path, "reap_s": 0.1, **settings}))
        scheduler = Scheduler(runtime)
        scheduler.start()
        stop.extend((runtime.close, scheduler.stop))
        return scheduler

    yield start
    for action in reversed(stop):
        action()


def leaders(sql: Connection) -> int:
    return sql.execute(
        "SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        " WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()"
    ).rowcount


def test_ended_leases_and_passed_deadlines_are_found(
    schedule: Open, db: Database, dsn: str, sql: Connection, jobs: Jobs
) -> None:
    lost, late = lease(db), add(db)
    rewind(dsn, lost.job_id)
    sql.execute("UPDATE llm.jobs SET deadline_at = now() WHERE id = %s", (late,))
    schedule()
    until(lambda: jobs.get(lost.job_id).status is Status.QUEUED)
    until(lambda: jobs.get(late).reason is Reason.DEADLINE_EXCEEDED)


def test_whoever_waits_is_told(schedule: Open, runtime: Runtime, db: Database, sql: Connection, dsn: str) -> None:
    lost, late = lease(db), lease(db)
    listener = runtime.listener
    with (
        listener.subscribe(JOB_QUEUED, "") as claimer,
        listener.subscribe(JOB_ENDED, str(late.job_id)) as worker,
        listener.subscribe("job_update", str(lost.job_id)) as watcher,
    ):
        until(lambda: listener.hears(JOB_QUEUED) and watcher.is_set())
        for event in (claimer, worker, watcher):
            event.clear()
        rewind(dsn, lost.job_id)
        sql.execute("UPDATE llm.jobs SET deadline_at = now() WHERE id = %s", (late.job_id,))
        schedule()
        assert claimer.wait(5)
        assert worker.wait(5)
        assert watcher.wait(5)


def test_a_worker_that_died_is_noticed_long_before_its_lease_ends(
    schedule: Open, db: Database, dsn: str, jobs: Jobs
) -> None:
    dead, living, older = (lease(db, name) for name in ("dead", "living", "older"))
    session, other = alive(dsn, db, "dead"), alive(dsn, db, "living")
    report(db, "older", None)  # of a version that took no lock
    schedule(reap_s=1.0)
    died_at = time.monotonic()
    session.close()
    until(lambda: jobs.get(dead.job_id).status is Status.QUEUED)
    assert time.monotonic() - died_at < 6
    assert jobs.get(dead.job_id).error == "worker dead is gone"
    assert [(a.status, a.reason) for a in jobs.attempts(dead.job_id)] == [("error", "lease_expired")]
    for held in (living, older):
        assert jobs.get(held.job_id).status is Status.RUNNING
    other.close()


@pytest.mark.parametrize("back", [True, False], ids=["back", "dead"])
def test_a_job_ends_no_workers_that_come_back_without_its_lease(
    schedule: Open, db: Database, dsn: str, sql: Connection, jobs: Jobs, back: bool
) -> None:
    """As after an absence of the server longer than a lease: all of them are missing, for a moment or for good."""
    held = lease(db, "w")
    alive(dsn, db, "w").close()
    sql.execute("UPDATE llm.jobs SET lease_until = now()")
    schedule()
    until(lambda: leaders(sql) == 1)
    with alive(dsn, db, "w") if back else contextlib.nullcontext():
        until(lambda: jobs.get(held.job_id).status is Status.QUEUED)
    assert jobs.get(held.job_id).error == ("the lease of worker w ended" if back else "worker w is gone")
    assert sql.execute("SELECT crashes FROM llm.jobs").fetchall() == [{"crashes": 0 if back else 1}]


def test_who_stands_in_waits_after_an_absence_too(
    schedule: Open, proxy: Proxy, db: Database, dsn: str, sql: Connection, jobs: Jobs
) -> None:
    """When the server is back all workers are missing, and whoever does not lead has not looked for long."""
    held = lease(db, "w")
    leader = Leadership(dsn, db.schema)
    assert leader.held()
    try:
        scheduler = schedule(proxy.dsn)
        until(lambda: scheduler._stand_in_at > 0)
        proxy.refuse()
        until(lambda: scheduler._stand_in_at == 0)
        alive(dsn, db, "w").close()
        sql.execute("UPDATE llm.jobs SET lease_until = now()")
        proxy.restore()
        until(lambda: scheduler._stand_in_at > 0)
        with alive(dsn, db, "w"):
            until(lambda: jobs.get(held.job_id).status is Status.QUEUED, timeout_s=20)
    finally:
        leader.resign()
    assert sql.execute("SELECT crashes FROM llm.jobs").fetchall() == [{"crashes": 0}]


def test_another_duty_that_fails_keeps_no_dead_worker_missing(
    schedule: Open, db: Database, dsn: str, sql: Connection, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fire(_: Schedules) -> None:
        raise SetupError("no rights")

    monkeypatch.setattr(Schedules, "fire", fire)
    held = lease(db, "w")
    alive(dsn, db, "w").close()
    sql.execute("UPDATE llm.jobs SET lease_until = now()")
    schedule()
    until(lambda: jobs.get(held.job_id).status is Status.QUEUED)
    assert jobs.get(held.job_id).error == "worker w is gone"


def test_a_session_that_broke_is_not_a_worker_that_died(
    schedule: Open, db: Database, dsn: str, sql: Connection, tmp_path: Path
) -> None:
    """As after a restart of the server: every session is gone, and the workers come back."""
    schedule()
    runtime = Runtime(config.load(db_dsn=dsn, data_dir=tmp_path, lease_s=30.0))
    keeper = Keeper(runtime, worker_id="w", name="", threads=1, kinds=list, on_free=lambda: None)
    keeper.start()
    try:
        (run,) = keeper.hold([lease(db)], claimed_at=time.monotonic())
        for _ in range(3):
            before = _life_key(sql)
            until(lambda: _life_key(sql) and runtime.listener.hears(JOB_ENDED))
            sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            until(lambda old=before: _life_key(sql) not in (None, old))  # type: ignore[misc] # mypy cannot infer a lambda with a default
        time_up = time.monotonic() + 2.5  # longer than the grace
        until(lambda: time.monotonic() > time_up)
        assert job_rows.status(db, run.lease.job_id) is Status.RUNNING
        assert run.was_cut is None
    finally:
        keeper.stop()
        runtime.close()


def _life_key(sql: Connection) -> int | None:
    row = sql.execute("SELECT life_key FROM llm.workers WHERE id = 'w'").fetchone()
    return None if row is None else row["life_key"]


def test_a_whole_fleet_that_died_is_taken_back_in_one_turn(runtime: Runtime, db: Database, sql: Connection) -> None:
    for _ in range(2 * sweeps.SWEEP + 1):
        add(db)
    claim(db, n=1000)
    sql.execute("UPDATE llm.jobs SET lease_until = now() - interval '1 s'")
    Scheduler(runtime).sweep()
    assert sql.execute("SELECT FROM llm.jobs WHERE status = 'queued'").rowcount == 2 * sweeps.SWEEP + 1
    sql.execute("UPDATE llm.jobs SET deadline_at = now()")
    Scheduler(runtime).sweep()
    assert sql.execute("SELECT FROM llm.jobs WHERE reason = 'deadline_exceeded'").rowcount == 2 * sweeps.SWEEP + 1


def test_one_of_many_leads_and_another_takes_over(schedule: Open, sql: Connection, db: Database, dsn: str) -> None:
    many = [schedule() for _ in range(3)]
    until(lambda: leaders(sql) == 1)
    for left in (2, 1):
        many.pop().stop()
        until(lambda: leaders(sql) == 1)
        assert len(many) == left
    lost = lease(db)
    rewind(dsn, lost.job_id)
    until(lambda: job_rows.status(db, lost.job_id) is Status.QUEUED)
    many.pop().stop()
    until(lambda: leaders(sql) == 0)


def test_a_leader_that_is_cut_off_is_followed_by_another(
    schedule: Open, proxy: Proxy, sql: Connection, db: Database, dsn: str
) -> None:
    schedule(proxy.dsn)
    until(lambda: leaders(sql) == 1)
    schedule()
    proxy.refuse()
    lost = lease(db)
    rewind(dsn, lost.job_id)
    until(lambda: job_rows.status(db, lost.job_id) is Status.QUEUED)
    assert leaders(sql) == 1


def test_an_absence_of_the_database_does_not_end_it(schedule: Open, proxy: Proxy, db: Database, dsn: str) -> None:
    scheduler = schedule(proxy.dsn)
    for _ in range(2):
        proxy.refuse()
        lost = lease(db)
        rewind(dsn, lost.job_id)
        proxy.restore()
        until(lambda held=lost: job_rows.status(db, held.job_id) is Status.QUEUED)  # type: ignore[misc] # mypy cannot infer a lambda with a default
        job_rows.cancel(db, lost.job_id)
    assert scheduler.fault() is None


def test_a_bad_turn_does_not_end_it(schedule: Open, db: Database, dsn: str, sql: Connection) -> None:
    """A table of another version: nothing of ours is raised then."""
    sql.execute("ALTER TABLE llm.jobs RENAME COLUMN crashes TO crashed")
    try:
        scheduler = schedule()
        until(lambda: leaders(sql) == 1)
    finally:
        sql.execute("ALTER TABLE llm.jobs RENAME COLUMN crashed TO crashes")
    lost = lease(db)
    rewind(dsn, lost.job_id)
    until(lambda: job_rows.status(db, lost.job_id) is Status.QUEUED)
    assert scheduler.fault() is None


def test_old_things_are_pruned_also_when_there_are_many(
    schedule: Open, db: Database, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_mcp.scheduler._PRUNE", 2)  # turns of two
    for _ in range(5):
        held = lease(db)
        verbs.complete(db, held.job_id, held.token, result="{}")
    sql.execute("UPDATE llm.jobs SET finished_at = now() - interval '8 days'")
    young = lease(db)
    verbs.complete(db, young.job_id, young.token, result="{}")
    sql.execute("INSERT INTO llm.workers (id, seen_at) VALUES ('old', now() - interval '2 days'), ('new', now())")
    sql.execute("SELECT llm.drop_event_days(-40)")
    schedule()
    until(lambda: sql.execute("SELECT FROM llm.jobs").rowcount == 1)
    until(lambda: [row["id"] for row in sql.execute("SELECT id FROM llm.workers")] == ["new"])
    until(lambda: sql.execute("SELECT FROM pg_inherits WHERE inhparent = 'llm.job_events'::regclass").rowcount == 10)


def test_it_ends_when_told_to(schedule: Open) -> None:
    scheduler = schedule(reap_s=60.0)
    scheduler.stop()
    assert "llm-mcp-scheduler" not in {thread.name for thread in threading.enumerate()}
    assert scheduler.fault() == "llm-mcp-scheduler"
