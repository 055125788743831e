"""The line: where a waiting job stands, told to its watchers at most once a second, and only what is new."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from llm_mcp.events import Event
from llm_mcp.job import Job, Status
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store import leases as verbs
from llm_mcp.store import line
from llm_mcp.store.line import MOST, Line, Place
from llm_mcp.store.pool import Connection
from tests.integration.rows import add, claim, lease
from tests.integration.test_follow import short

AT = datetime(2026, 1, 1, tzinfo=UTC)


def a_job(kind: str = "echo", priority: int = 0, at: datetime = AT) -> Job:
    return Job(
        id=None,  # type: ignore[arg-type] # not looked at
        kind=kind,
        queue="default",
        status=Status.QUEUED,
        reason=None,
        attempts=0,
        max_attempts=3,
        priority=priority,
        source="",
        queued_at=at,
        updated_at=at,
        run_at=at,
    )


def of(count: int, *, cut: bool = False, **pace_s: float) -> Line:
    """A line of echo jobs, a second apart."""
    return Line({"echo": [(0, AT + timedelta(seconds=n)) for n in range(count)]}, cut=cut, pace_s=pace_s)


@pytest.mark.parametrize(
    ("found", "job", "place"),
    [
        (of(3), a_job(), Place(1)),
        (of(3), a_job(at=AT + timedelta(seconds=2)), Place(3)),
        (of(3), a_job(at=AT + timedelta(seconds=1.5)), None),  # not one of those that may begin
        (of(3), a_job(at=AT + timedelta(seconds=9)), None),
        (of(3), a_job(priority=1), None),
        (of(3), a_job("other"), None),
        (of(3, cut=True), a_job(at=AT + timedelta(seconds=9)), Place(4, at_least=True)),
        (of(3, cut=True), a_job(priority=-1), Place(4, at_least=True)),
        (of(3, cut=True), a_job("other"), None),
        (of(MOST), a_job(at=AT + timedelta(seconds=MOST - 1)), Place(MOST)),
        (of(MOST + 1), a_job(at=AT + timedelta(seconds=MOST)), Place(MOST, at_least=True)),
        (of(MOST + 9, cut=True), a_job(at=AT + timedelta(days=9)), Place(MOST, at_least=True)),
        (of(3, echo=2.5), a_job(at=AT + timedelta(seconds=1)), Place(2, eta_s=5.0)),
        (of(3, other=2.5), a_job(), Place(1)),
    ],
)
def test_a_place_in_a_line(found: Line, job: Job, place: Place | None) -> None:
    assert found.place(job) == place


def test_the_line_as_it_is_claimed(runtime: Runtime, jobs: Jobs) -> None:
    first, second = add(runtime.db), add(runtime.db)
    add(runtime.db, "other")
    delayed = add(runtime.db, delay_s=60.0)
    urgent = add(runtime.db, priority=5)
    found = line.line(runtime.db, ["echo"])
    places = [found.place(jobs.get(job_id)) for job_id in (urgent, first, second, delayed)]
    assert places == [Place(1), Place(2), Place(3), None]
    assert claim(runtime.db)[0].job_id == urgent


def test_who_is_farther_back_than_anybody_counts(runtime: Runtime, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "_WALK", 3)
    ids = [add(runtime.db) for _ in range(5)]
    found = line.line(runtime.db, ["echo"])
    assert [found.place(jobs.get(job_id)) for job_id in ids[2:]] == [Place(3), *[Place(4, at_least=True)] * 2]


@pytest.mark.parametrize(
    ("finished", "status", "running", "ago", "eta_s"),
    [
        (3, "done", 2, "1 s", 12.0),  # 8 s each, two at a time: a place every 4 s, the third one of which is ours
        (2, "done", 2, "1 s", None),  # too few
        (3, "error", 2, "1 s", None),  # how long a failure took says nothing
        (3, "done", 0, "1 s", None),  # nobody works
        (3, "done", 2, "1 h", None),  # long ago
    ],
)
def test_a_forecast_is_measured_or_there_is_none(
    runtime: Runtime,
    jobs: Jobs,
    sql: Connection,
    finished: int,
    status: str,
    running: int,
    ago: str,
    eta_s: float | None,
) -> None:
    for _ in range(finished):
        verbs.complete(runtime.db, (held := lease(runtime.db)).job_id, held.token, result="{}")
    sql.execute(
        "UPDATE llm.jobs SET status = %s, reason = CASE WHEN %s = 'error' THEN 'failed' END, result = NULL,"
        " finished_at = now() - %s::interval, begun_at = now() - %s::interval - interval '8 s'",
        (status, status, ago, ago),
    )
    for _ in range(running):
        lease(runtime.db)
    ids = [add(runtime.db) for _ in range(3)]
    place = line.line(runtime.db, ["echo"]).place(jobs.get(ids[-1]))
    assert place == Place(3, eta_s=eta_s)


# — told —


def told(items: Iterator[Job | Event | None], seconds: float) -> list[tuple[float, Any]]:
    """Return the queue events that come within so many seconds, each with the instant at which it did."""
    end, found = time.monotonic() + seconds, list[tuple[float, Any]]()
    while time.monotonic() < end:
        item = next(items)
        if isinstance(item, Event):
            assert item.type == "queue"
            found.append((time.monotonic(), item.data))
        else:
            assert item is None
    return found


def test_a_waiting_job_is_told_its_place_when_that_changes(runtime: Runtime, jobs: Jobs) -> None:
    for _ in range(3):
        add(runtime.db)
    job_id = add(runtime.db)
    items = jobs.watch(job_id, line=True).items(quiet_s=0.1)
    assert short(next(items)) == "queued"
    first = told(items, 3.5)
    assert [data for _, data in first] == [{"position": 4}]
    claim(runtime.db)
    claim(runtime.db)
    assert [data for _, data in told(items, 2.5)] == [{"position": 2}]
    claim(runtime.db)
    (held,) = claim(runtime.db)
    runtime.announce(job_id)
    while (item := next(items)) is None or isinstance(item, Event):
        pass
    assert short(item) == "running"
    add(runtime.db)
    assert told(items, 1.5) == [], "it waits no more"
    verbs.fail(runtime.db, job_id, held.token, error="no", retryable=True, delay_s=0)
    runtime.announce(job_id)
    while (item := next(items)) is None:
        pass
    assert short(item) == "queued"
    assert [data["position"] for _, data in told(items, 2.5)] == [1], "a retry has its old place again"
    items.close()


def test_it_is_told_at_most_once_a_second(runtime: Runtime, jobs: Jobs) -> None:
    for _ in range(200):
        add(runtime.db)
    items = jobs.watch(add(runtime.db), line=True).items(quiet_s=0.05)
    assert short(next(items)) == "queued"
    end, at = time.monotonic() + 4.5, list[float]()
    while time.monotonic() < end:
        claim(runtime.db)
        at += [when for when, _ in told(items, 0.1)]
    items.close()
    assert 3 <= len(at) <= 5
    assert min(b - a for a, b in pairwise(at)) > 0.8


def test_who_did_not_ask_for_it_is_not_told(runtime: Runtime, jobs: Jobs) -> None:
    items = jobs.follow(add(runtime.db), quiet_s=0.1)
    assert short(next(items)) == "queued"
    assert told(items, 2.5) == []
    items.close()
