"""What many jobs and many workers do to each other: races with a cancel, floods, herds."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from llm_mcp import Conflict, Jobs
from tests.chaos.load import Asked
from tests.faults.clients import wanted
from tests.faults.ground import THREADS, Ground
from tests.waiting import until


def cancel_some(jobs: Jobs, asked: Sequence[Asked], rng: random.Random) -> None:
    """Cancel each of these a moment after it was submitted."""
    for one in asked:
        (job_id,) = one.told
        one.cancelling = True
        time.sleep(rng.uniform(0.0, 0.02))
        with suppress(Conflict):  # it had ended already, and the judge looks whether that stands
            one.cancelled = jobs.cancel(job_id).status.final


@pytest.mark.parametrize("count", [240, pytest.param(2000, marks=pytest.mark.soak)])
def test_a_cancel_racing_with_the_end_has_one_winner(ground: Ground, count: int) -> None:
    """Who was told that the cancel ended the job finds it cancelled; who was told that it was late finds its result."""
    ground.workers("a", "b")
    jobs, rng = ground.jobs(), random.Random(6)
    for turn in range(count // 8):
        asked = ground.ask_for(8, "chaos.work", name=f"turn{turn}", s=rng.choice([0.0, 0.02, 0.05]))
        threads = [threading.Thread(target=cancel_some, args=(jobs, half, rng)) for half in (asked[::2], asked[1::2])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    evidence = ground.verdict()
    ends = [row["reason"] or row["status"] for row in evidence.jobs.values()]
    cancelled = sum(one.cancelled for one in ground.asked)
    assert ends.count("cancelled") == cancelled
    assert ends.count("done") == count - cancelled
    assert cancelled > count // 20
    assert ends.count("done") > count // 20


def test_calls_of_cancelled_and_late_jobs_are_cut_in_time(ground: Ground) -> None:
    """Long before their leases end."""
    ground.workers("a", "b", lease_s=30.0)
    jobs = ground.jobs()
    late = ground.ask_for(
        THREADS, "faults.call", name="late", s=20.0, deadline_at=datetime.now(UTC) + timedelta(seconds=1.5)
    )
    given_up = ground.ask_for(THREADS, "faults.call", name="given up", s=20.0)
    until(lambda: len(ground.upstream.calls) == 2 * THREADS)
    began_at = time.monotonic()
    cancel_some(jobs, given_up, random.Random(7))
    until(lambda: all(call.ended_at < float("inf") for call in ground.upstream.calls), timeout_s=10.0)
    assert time.monotonic() - began_at < 4.0
    evidence = ground.verdict()
    reasons = {row["key"]: row["reason"] for row in evidence.jobs.values()}
    assert reasons == {one.key: "deadline_exceeded" for one in late} | {one.key: "cancelled" for one in given_up}


@pytest.mark.parametrize("count", [3000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_flood_does_not_stop_submits(ground: Ground, count: int) -> None:
    """Thousands at once, and a stream of others after them: each is written in good time, all get done."""
    jobs = ground.jobs()
    for start in range(0, count, 500):
        ground.submit([wanted(f"flood-{start + n}", "faults.nothing") for n in range(500)])
    client = ground.client("stream", lambda key: wanted(key, "faults.nothing"), every_s=0.01)
    ground.workers("a", worker_threads=8)
    until(lambda: ground.count("status = 'queued'") < count // 2, timeout_s=60)
    evidence = ground.verdict()
    assert all(row["status"] == "done" for row in evidence.jobs.values())
    assert len(client.waits_s) > 50
    assert client.refused == 0
    assert sorted(client.waits_s)[int(0.99 * len(client.waits_s))] <= 1.0
    assert jobs.unserved() == {}


def test_nothing_waits_for_ever_behind_what_is_more_urgent(ground: Ground) -> None:
    """The highest priority comes faster than it can be done; once it has waited long enough the lowest goes first."""
    ageing_s = 2.0
    ground.workers("a", ageing_s=ageing_s)
    ground.ask_for(30, name="urgent", s=0.2, priority=9)
    (humble,) = ground.ask_for(1, name="humble", priority=-9)
    client = ground.client("flood", lambda key: wanted(key, s=0.2, priority=9), every_s=0.02)
    (humble_id,) = humble.told
    until(lambda: ground.count(f"id = '{humble_id}' AND status = 'done'"), timeout_s=10 * ageing_s)
    assert ground.count("status = 'queued' AND priority = 9") > 0, "there was no flood"
    (row,) = ground.rows(
        "SELECT started_at - queued_at AS waited FROM llm.job_attempts JOIN llm.jobs ON id = job_id WHERE id = %s",
        humble_id,
    )
    client.stop()
    ground.verdict()
    assert 0.5 * ageing_s <= row["waited"].total_seconds() <= ageing_s + 2.0


_TURNS = "SELECT coalesce(sum(calls), 0)::int AS n FROM pg_stat_user_functions WHERE funcname = 'room'"


@pytest.mark.xfail(reason="every idle worker of every process takes a turn for every notice", strict=False)
def test_a_job_wakes_few_of_many_idle_workers(ground: Ground) -> None:
    """A job takes two turns, one that claims it and one that hands it in; a fifth of all may be in vain.

    Each turn asks once how much room there is, and the server counts that.
    """
    with psycopg.connect(ground.stage.dsn, autocommit=True) as conn:
        conn.execute("ALTER DATABASE postgres SET track_functions = 'pl'")
    names = [f"w{n}" for n in range(6)]
    ground.workers(*names, poll_s=60.0, worker_threads=2)
    ground.spend(1.5)
    before, count = ground.rows(_TURNS)[0]["n"], 40
    for n in range(count):
        ground.ask_for(1, "faults.nothing", name=f"job{n}")
        until(lambda n=n: ground.count("status = 'done'") == n + 1)  # type: ignore[misc] # a lambda with defaults
        time.sleep(0.03)
    ground.verdict()
    ground.spend(1.5)  # the server tells its figures once a second
    turns = ground.rows(_TURNS)[0]["n"] - before
    assert turns >= count
    assert turns - 2 * count <= 0.2 * turns
