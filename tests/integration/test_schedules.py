"""Schedules: rows that submit jobs when their time has come, each tick once, whatever else happens."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from llm_mcp import Definition, Schedule, Schedules
from llm_mcp.errors import InvalidInput, NotFound, TooLarge, Unavailable
from llm_mcp.job import Job, Status
from llm_mcp.jobs import Jobs
from llm_mcp.scheduler import Scheduler
from llm_mcp.store import schedules as rows
from llm_mcp.store.listen import JOB_QUEUED
from llm_mcp.store.pool import Connection, Database
from tests.waiting import until

SOON = timedelta(seconds=90)


@pytest.fixture
def schedules(runtime: Any) -> Schedules:
    return Schedules(runtime)


def definition(name: str = "nightly", cron: str = "0 3 * * *", **more: Any) -> Definition:
    return Definition(name=name, cron=cron, **{"kind": "echo", **more})


def overdue(sql: Connection, name: str = "nightly", by: str = "1 s") -> datetime:
    """Let a schedule's next tick have been so long ago and return that instant."""
    row = sql.execute(
        "UPDATE llm.schedules SET next_at = now() - %s::interval WHERE name = %s RETURNING next_at", (by, name)
    ).fetchone()
    assert row is not None
    return row["next_at"]  # type: ignore[no-any-return] # a row of psycopg's


def now(sql: Connection) -> datetime:
    row = sql.execute("SELECT now() AS now").fetchone()
    assert row is not None
    return row["now"]  # type: ignore[no-any-return] # as above


def submitted(jobs: Jobs) -> list[Job]:
    return [jobs.get(one.id) for one in jobs.page(limit=1000)]


# — what a row is —


def test_a_definition_is_a_row_whose_next_tick_is_counted_by_the_database(
    schedules: Schedules, sql: Connection
) -> None:
    made = definition(
        cron=" */5  * * *   * ", timezone="Europe/Berlin", payload={"text": "ж"}, priority=7, max_attempts=2
    )
    assert schedules.put(made) == "added"
    (found,) = schedules.every()
    assert found == schedules.get("nightly")
    assert (found.name, found.kind, found.cron, found.timezone) == ("nightly", "echo", "*/5 * * * *", "Europe/Berlin")
    assert (found.payload, found.queue, found.source) == ('{"text":"ж"}', "default", "schedule")
    assert (found.priority, found.max_attempts) == (7, 2)
    assert (found.paused_at, found.error, found.last_at, found.last_job_id) == (None, None, None, None)
    assert timedelta(0) < found.next_at - now(sql) <= timedelta(minutes=5)
    assert found.next_at.minute % 5 == found.next_at.second == found.next_at.microsecond == 0


def test_the_same_definition_again_changes_nothing(schedules: Schedules, sql: Connection) -> None:
    schedules.put(definition())
    overdue(sql)
    before = schedules.get("nightly")
    assert schedules.put(definition()) == "unchanged"
    assert schedules.get("nightly") == before


@pytest.mark.parametrize("more", [{"payload": {"n": 2}}, {"kind": "other"}, {"priority": 1}, {"max_attempts": 9}])
def test_another_job_keeps_the_next_tick(schedules: Schedules, sql: Connection, more: dict[str, Any]) -> None:
    schedules.put(definition())
    due_at = overdue(sql)
    assert schedules.put(definition(**more)) == "changed"
    assert schedules.get("nightly").next_at == due_at


@pytest.mark.parametrize("more", [{"cron": "0 4 * * *"}, {"timezone": "Asia/Tokyo"}])
def test_another_line_or_zone_has_the_next_tick_counted_anew(
    schedules: Schedules, sql: Connection, more: dict[str, Any]
) -> None:
    schedules.put(definition())
    overdue(sql)
    assert schedules.put(definition(**more)) == "changed"
    found = schedules.get("nightly")
    assert found.next_at > now(sql)
    assert f"{found.next_at.astimezone(UTC):%H:%M}" == ("04:00" if "cron" in more else "18:00")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"cron": "0 25 * * *"}, "cron"),
        ({"cron": "0 0 31 2 *"}, "cron"),
        ({"timezone": "Europe/Bonn"}, "timezone"),
        ({"name": " "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"kind": ""}, "kind"),
        ({"kind": "ollama.generate", "payload": {"prompt": 5}}, "payload.prompt"),
        ({"payload": float("nan")}, "payload"),
        ({"priority": 2**31}, "priority"),
        ({"max_attempts": 2**31}, "max_attempts"),
    ],
)
def test_what_is_wrong_is_refused_by_its_field_and_nothing_is_written(
    schedules: Schedules, more: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        schedules.put(definition(**more))
    assert caught.value.field == field
    assert schedules.every() == []


def test_a_payload_no_job_could_have_is_refused(schedules: Schedules) -> None:
    with pytest.raises(TooLarge):
        schedules.put(definition(payload="x" * (16 * 2**20 + 1)))


# — firing —


def test_a_due_tick_is_one_job_and_moves_on_to_the_next(schedules: Schedules, sql: Connection, jobs: Jobs) -> None:
    schedules.put(definition(payload={"n": 1}, priority=7, max_attempts=2, source="me"))
    schedules.put(definition("later"))
    overdue(sql)
    assert schedules.fire() == 1
    assert schedules.fire() == 0
    (job,) = submitted(jobs)
    assert (job.kind, job.payload, job.priority, job.max_attempts) == ("echo", '{"n":1}', 7, 2)
    assert (job.status, job.source, job.queue) == (Status.QUEUED, "me", "default")
    found = schedules.get("nightly")
    assert found.last_job_id == job.id
    assert found.last_at is not None
    assert abs(found.last_at - now(sql)) < SOON
    assert now(sql) < found.next_at <= now(sql) + timedelta(days=1)
    assert schedules.get("later").last_at is None


def test_ticks_that_were_missed_are_one_job_together(schedules: Schedules, sql: Connection, jobs: Jobs) -> None:
    schedules.put(definition(cron="* * * * *"))
    overdue(sql, by="100 days")
    assert schedules.fire() == 1
    assert len(submitted(jobs)) == 1
    assert schedules.get("nightly").next_at > now(sql) - SOON


def test_many_leaders_at_once_fire_each_tick_once(schedules: Schedules, sql: Connection, jobs: Jobs) -> None:
    names = [f"s{n}" for n in range(20)]
    for name in names:
        schedules.put(definition(name))
    for _ in range(3):
        sql.execute("UPDATE llm.schedules SET next_at = now() - interval '1 s' * random()")
        sql.execute("DELETE FROM llm.jobs")
        fired: list[int] = []
        together = threading.Barrier(4)

        def lead(together: threading.Barrier = together, fired: list[int] = fired) -> None:
            together.wait()
            fired.append(schedules.fire())

        threads = [threading.Thread(target=lead) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(fired) == len(names)
        assert len(submitted(jobs)) == len(names)


def test_one_who_looked_before_another_fired_changes_nothing(
    schedules: Schedules, sql: Connection, db: Database, jobs: Jobs
) -> None:
    schedules.put(definition(cron="* * * * * *"))
    overdue(sql)
    (seen,) = rows.due(db, n=10)
    schedules.fire()
    before = schedules.get("nightly")
    later = datetime(2040, 1, 1, tzinfo=UTC)
    assert rows.fire(db, seen, next_at=later, job_id=UUID(int=1), key="another") is None
    assert rows.spoil(db, seen, error="no") is False
    assert schedules.get("nightly") == before
    assert len(submitted(jobs)) == 1


def test_a_tick_moved_back_by_hand_is_the_same_job(schedules: Schedules, sql: Connection, jobs: Jobs) -> None:
    schedules.put(definition())
    due_at = overdue(sql)
    schedules.fire()
    sql.execute("UPDATE llm.schedules SET next_at = %s", (due_at,))
    schedules.fire()
    (job,) = submitted(jobs)
    assert schedules.get("nightly").last_job_id == job.id
    assert schedules.get("nightly").next_at > now(sql)


def test_job_and_next_tick_are_written_both_or_neither(schedules: Schedules, sql: Connection, jobs: Jobs) -> None:
    schedules.put(definition())
    due_at = overdue(sql)
    sql.execute("ALTER TABLE llm.schedules ADD CONSTRAINT no_luck CHECK (last_at IS NULL)")
    try:
        schedules.fire()
    finally:
        sql.execute("ALTER TABLE llm.schedules DROP CONSTRAINT no_luck")
    assert submitted(jobs) == []
    assert schedules.get("nightly").next_at == due_at
    assert "no_luck" in (schedules.get("nightly").error or "")


def test_more_than_a_batch_are_fired_in_one_go(
    schedules: Schedules, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_mcp.schedules._BATCH", 3)
    for n in range(7):
        schedules.put(definition(f"s{n}"))
    sql.execute("UPDATE llm.schedules SET next_at = now()")
    assert schedules.fire() == 7


def test_a_row_somebody_holds_is_left_for_the_next_turn(schedules: Schedules, sql: Connection, dsn: str) -> None:
    for name in ("held", "free"):
        schedules.put(definition(name))
        overdue(sql, name)
    with psycopg.connect(dsn) as other:
        other.execute("UPDATE llm.schedules SET priority = 1 WHERE name = 'held'")
        assert schedules.fire() == 1
    assert schedules.fire() == 1


# — rows that cannot go on —


@pytest.mark.parametrize(
    ("column", "garbage", "said"),
    [
        ("cron", "at noon", "cron: 'at noon': wrong number of fields"),
        ("cron", "0 0 31 2 *", "cron: '0 0 31 2 *': bad day-of-month"),
        ("timezone", "Europe/Bonn", "timezone: no time zone 'Europe/Bonn'"),
    ],
)
def test_a_row_edited_to_garbage_is_paused_with_the_reason_and_stops_no_other(
    schedules: Schedules,
    sql: Connection,
    jobs: Jobs,
    caplog: pytest.LogCaptureFixture,
    column: str,
    garbage: str,
    said: str,
) -> None:
    for name in ("a", "bad", "c"):
        schedules.put(definition(name))
    sql.execute(f"UPDATE llm.schedules SET {column} = %s WHERE name = 'bad'", (garbage,))
    for name, by in (("a", "1 s"), ("bad", "2 s"), ("c", "3 s")):
        overdue(sql, name, by)
    assert schedules.fire() == 2
    assert schedules.fire() == 0
    bad = schedules.get("bad")
    assert bad.error == said
    assert bad.paused_at is not None
    assert [record.action for record in caplog.records if record.levelname == "ERROR"] == [  # type: ignore[attr-defined] # an extra
        "schedule_spoiled"
    ]
    assert len(submitted(jobs)) == 2
    # Another definition is another try; the same one is not.
    with pytest.raises(InvalidInput):
        schedules.resume("bad")
    assert schedules.put(definition("bad", payload={"n": 2})) == "changed"
    assert schedules.get("bad").error is None
    assert schedules.get("bad").paused_at is None
    assert schedules.get("bad").next_at > now(sql)


def test_a_tick_whose_key_is_taken_by_another_request_pauses_its_schedule_alone(
    schedules: Schedules, sql: Connection
) -> None:
    for name in ("taken", "free"):
        schedules.put(definition(name))
        overdue(sql, name)
    schedules.fire()
    sql.execute("UPDATE llm.jobs SET payload = '7'")
    sql.execute(
        "UPDATE llm.schedules SET next_at = split_part(idempotency_key, ':taken:', 2)::timestamptz"
        " FROM llm.jobs WHERE name = 'taken' AND idempotency_key LIKE '%:taken:%'"
    )
    overdue(sql, "free")
    assert schedules.fire() == 1
    assert "another request" in (schedules.get("taken").error or "")


@pytest.mark.parametrize(
    "change",
    [
        "next_at = '-infinity'",
        "next_at = 'infinity'",
        "payload = '{'",
        "payload = '1e999'",
        "kind = ' '",
        "name = ''",
        "error = 'but not paused'",
    ],
)
def test_what_no_driver_or_job_could_bear_is_kept_out_of_the_table(
    schedules: Schedules, sql: Connection, change: str
) -> None:
    schedules.put(definition())
    with pytest.raises(psycopg.errors.CheckViolation):
        sql.execute(f"UPDATE llm.schedules SET {change}")


def test_an_absent_database_pauses_nothing(schedules: Schedules, sql: Connection) -> None:
    schedules.put(definition())
    overdue(sql)
    sql.execute("ALTER TABLE llm.jobs RENAME TO lost")
    try:
        with pytest.raises(Unavailable):
            schedules.fire()
    finally:
        sql.execute("ALTER TABLE llm.lost RENAME TO jobs")
    assert schedules.get("nightly").paused_at is None
    assert schedules.fire() == 1


# — by hand —


def test_a_paused_schedule_fires_nothing_and_goes_on_with_its_next_tick(
    schedules: Schedules, sql: Connection, db: Database, jobs: Jobs
) -> None:
    schedules.put(definition())
    paused = schedules.pause("nightly")
    assert paused.paused_at is not None
    assert schedules.pause("nightly") == paused
    overdue(sql)
    assert rows.due(db, n=10) == []  # many of them must not crowd out others
    assert schedules.fire() == 0
    assert schedules.put(definition(payload={"n": 2})) == "changed"
    assert schedules.get("nightly").paused_at == paused.paused_at
    resumed = schedules.resume("nightly")
    assert resumed.paused_at is None
    assert resumed.next_at > now(sql)
    assert schedules.fire() == 0
    due_at = overdue(sql)
    assert schedules.resume("nightly").next_at == due_at  # it was not paused
    assert schedules.fire() == 1
    assert len(submitted(jobs)) == 1


def test_a_run_by_hand_is_a_job_and_leaves_the_clock_alone(schedules: Schedules, jobs: Jobs) -> None:
    schedules.put(definition(payload={"n": 1}, max_attempts=1))
    schedules.pause("nightly")
    before = schedules.get("nightly")
    first, second = schedules.run("nightly"), schedules.run("nightly")
    assert first != second
    assert [(job.id, job.payload, job.max_attempts) for job in submitted(jobs)] == [
        (second, '{"n":1}', 1),
        (first, '{"n":1}', 1),
    ]
    found = schedules.get("nightly")
    assert found.last_job_id == second
    assert (found.next_at, found.paused_at) == (before.next_at, before.paused_at)


def test_what_is_removed_is_gone_and_its_jobs_stay(schedules: Schedules, jobs: Jobs) -> None:
    schedules.put(definition())
    job_id = schedules.run("nightly")
    schedules.remove("nightly")
    assert schedules.every() == []
    assert jobs.get(job_id).status is Status.QUEUED


@pytest.mark.parametrize("verb", ["get", "remove", "pause", "resume", "run"])
def test_a_name_nobody_knows_is_not_found(schedules: Schedules, verb: str) -> None:
    with pytest.raises(NotFound, match="no schedule 'nobody'"):
        getattr(schedules, verb)("nobody")


# — the scheduler —


def test_the_leader_fires_within_its_interval_and_wakes_a_worker(
    schedules: Schedules, sql: Connection, jobs: Jobs
) -> None:
    schedules.put(definition())
    listener = schedules.runtime.listener
    scheduler = Scheduler(schedules.runtime)
    with listener.subscribe(JOB_QUEUED, "") as claimer:
        until(lambda: listener.hears(JOB_QUEUED))
        claimer.clear()
        scheduler.start()
        try:
            overdue(sql)
            until(lambda: submitted(jobs))
            assert claimer.wait(5)
        finally:
            scheduler.stop()


def test_a_bad_row_ends_no_turn(schedules: Schedules, sql: Connection, jobs: Jobs) -> None:
    schedules.put(definition("bad"))
    schedules.put(definition("good"))
    sql.execute("UPDATE llm.schedules SET cron = 'x' WHERE name = 'bad'")
    scheduler = Scheduler(schedules.runtime)
    scheduler.start()
    try:
        overdue(sql, "bad")
        until(lambda: schedules.get("bad").error)
        overdue(sql, "good")
        until(lambda: submitted(jobs))
        assert scheduler.fault() is None
    finally:
        scheduler.stop()


def test_a_schedule_is_a_public_word(schedules: Schedules) -> None:
    schedules.put(definition())
    assert isinstance(schedules.get("nightly"), Schedule)
