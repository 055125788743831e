"""What many jobs and many workers do to each other: races with a cancel, floods, herds, and what stays of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from statistics import linear_regression

import pytest
from psycopg.conninfo import make_conninfo

from llm_mcp import Conflict, Jobs, Submission
from llm_mcp.limits import Limits
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


@pytest.mark.parametrize("count", [160, pytest.param(2000, marks=pytest.mark.soak)])
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
    until(lambda: len(client.waits_s) > 10, timeout_s=60)
    ground.workers("a", worker_threads=8)
    until(lambda: len(client.waits_s) > 30 and ground.count("status = 'queued'") < count // 2, timeout_s=60)
    evidence = ground.verdict()
    assert all(row["status"] == "done" for row in evidence.jobs.values())
    assert client.refused == 0
    assert sorted(client.waits_s)[int(0.99 * len(client.waits_s))] <= 1.0
    assert jobs.unserved() == {}


def test_nothing_waits_for_ever_behind_what_is_more_urgent(ground: Ground) -> None:
    """The highest priority comes faster than it can be done; once it has waited long enough the lowest goes first."""
    ageing_s = 1.5
    ground.workers("a", ageing_s=ageing_s)
    ground.ask_for(20, name="urgent", s=0.2, priority=9)
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


_PICKUPS = """
SELECT job_id, began_at, extract(epoch FROM began_at - queued_at)::float8 AS waited_s
  FROM (SELECT job_id, queued_at, min(started_at) AS began_at FROM llm.job_attempts JOIN llm.jobs ON id = job_id
         WHERE idempotency_key LIKE %s GROUP BY job_id, queued_at) AS picked ORDER BY waited_s"""
_OVERTAKEN = """
SELECT count(*)::int AS n FROM llm.job_attempts a JOIN llm.jobs flood ON flood.id = a.job_id, llm.jobs other
 WHERE flood.kind = 'chaos.work' AND other.idempotency_key LIKE 'other-%'
   AND a.started_at > other.queued_at
   AND a.started_at < (SELECT min(started_at) FROM llm.job_attempts o WHERE o.job_id = other.id)
 GROUP BY other.id ORDER BY n DESC LIMIT 1"""


def p99_s(ground: Ground, name: str) -> float:
    """Return how long jobs whose keys begin so waited for their first attempt, s: 99 of 100 no longer."""
    waits_s = [row["waited_s"] for row in ground.rows(_PICKUPS, f"{name}-%")]
    return float(waits_s[int(0.99 * len(waits_s))])


def flood(ground: Ground, count: int, s: float) -> None:
    """Have somebody submit so many jobs of one kind at once, of which two may run at a time."""
    Limits(ground.jobs().runtime).set("chaos.work", max_running=2)
    for start in range(0, count, 500):
        ground.submit([wanted(f"flood-{n}", s=s) for n in range(start, min(start + 500, count))])


def test_a_limited_kind_that_floods_lets_others_pass(ground: Ground) -> None:
    """Whoever else wants something has it begun at once, before all but a few of the flood that came earlier."""
    ground.workers("a", "b")
    flood(ground, 200, s=0.1)
    other = ground.client("other", lambda key: wanted(key, "faults.nothing"), every_s=0.02, limit=25)
    until(lambda: not other.is_alive() and ground.count("kind = 'faults.nothing' AND status = 'done'") == 25)
    assert ground.count("kind = 'chaos.work' AND status = 'queued'") > 50, "there was no flood"
    overtaken = ground.rows(_OVERTAKEN)
    Limits(ground.jobs().runtime).set("chaos.work", max_running="any")
    ground.verdict()
    assert not overtaken or overtaken[0]["n"] <= 2


@pytest.mark.soak
def test_a_flood_of_one_kind_costs_others_little_time(ground: Ground) -> None:
    """Of others, 99 of 100 wait about as long as without it."""
    count = 400
    ground.workers("a", "b")

    def spend(name: str) -> float:
        client = ground.client(name, lambda key: wanted(key, "faults.nothing"), every_s=0.03, limit=count)
        until(lambda: not client.is_alive(), timeout_s=90)
        until(lambda: ground.count(f"idempotency_key LIKE '{name}-%' AND status = 'done'") == count)
        return p99_s(ground, name)

    alone_s = spend("alone")
    flood(ground, 3000, s=0.02)
    beside_s = spend("beside")
    assert ground.count("kind = 'chaos.work' AND status = 'queued'") > 0, "there was no flood"
    print(f"p99 of pick-ups: {1000 * alone_s:.1f} ms alone, {1000 * beside_s:.1f} ms beside a flood")
    Limits(ground.jobs().runtime).set("chaos.work", max_running="any")
    ground.verdict(timeout_s=120)
    assert beside_s <= 4 * alone_s + 0.02


_LOOKS = "SELECT idx_scan::int AS n FROM pg_stat_user_indexes WHERE indexrelname = 'jobs_by_priority'"
# So that each claim goes by that index, however few jobs there are.
_BY_INDEX = "-c enable_seqscan=off -c enable_bitmapscan=off -c enable_sort=off"
# The server tells what a session of it did lately when that has been idle for so long at the most, s.
_TOLD_S = 10.5


def looks_for(ground: Ground, count: int, name: str) -> int:
    """Have so many jobs done one after another, and return how often all workers looked for them.

    Each claim goes through the line of priorities once, and the server counts that.
    """
    before, done = ground.rows(_LOOKS)[0]["n"], ground.count("status = 'done'")
    for n in range(count):
        ground.ask_for(1, "faults.nothing", name=f"{name}{n}")
        until(lambda n=n: ground.count("status = 'done'") == done + n + 1)  # type: ignore[misc] # a lambda with defaults
        time.sleep(0.03)
    ground.spend(_TOLD_S)
    looks: int = ground.rows(_LOOKS)[0]["n"] - before
    print(f"{name}: {looks} looks for {count} jobs")
    return looks


@pytest.mark.parametrize(
    "count",
    [
        6,
        pytest.param(20, marks=pytest.mark.soak),
        pytest.param(60, marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_a_job_wakes_few_of_many_idle_workers(ground: Ground, count: int) -> None:
    """A look of one worker finds it; for two jobs there may be one look in vain, besides those by which each worker
    learns that it comes too late, two."""
    dsn = make_conninfo(ground.stage.dsn, options=_BY_INDEX)
    for start in range(0, count, 6):
        names = [f"w{n}" for n in range(start, min(start + 6, count))]
        ground.workers(*names, db_dsn=dsn, poll_s=60.0, worker_threads=2, db_pool_size=2)
    ground.spend(_TOLD_S)
    jobs = 30 if count == 6 else 50
    looks = looks_for(ground, jobs, "at first")
    assert looks >= jobs
    assert looks - jobs <= 0.5 * jobs + 2 * count
    if count > 6:
        looks = looks_for(ground, jobs, "later")
        assert looks - jobs <= 0.5 * jobs
    ground.verdict()


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_worker_does_not_grow_with_the_jobs_it_did(ground: Ground) -> None:
    """Its memory after two hundred thousand small jobs is what it was after the first tens of thousands."""
    portion, portions, warm = 5000, 40, 8
    (worker,) = ground.workers("worker", worker_threads=8)
    jobs = ground.jobs()
    done: list[int] = []
    used_mib: list[float] = []
    for n in range(portions):
        for start in range(0, portion, 500):
            jobs.submit_many([Submission(kind="faults.silent", payload={"n": f"{n}-{start + i}"}) for i in range(500)])
        until(lambda: ground.count("status IN ('queued', 'running')") == 0, timeout_s=120, every_s=0.05)
        done.append((n + 1) * portion // 1000)
        used_mib.append(worker.rss_mib())
    slope, _ = linear_regression(done[warm:], used_mib[warm:])
    print(f"{used_mib[0]:.1f} MiB at first, {used_mib[-1]:.1f} MiB at last; {1024 * slope:.2f} KiB per 1000 jobs")
    assert ground.count("status = 'done'") == portion * portions
    assert slope * done[-1] <= 5.0, used_mib
