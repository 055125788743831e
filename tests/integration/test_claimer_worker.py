"""The claimer under the real thing: Dramatiq's threads, short and long jobs, lost replies, and an end at any moment."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_mcp import actor, config
from llm_mcp.broker import QUEUE, LeaseBroker, broker
from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store.listen import JOB_QUEUED
from llm_mcp.store.pool import Connection
from llm_mcp.worker import Worker
from tests.integration.proxy import Proxy
from tests.waiting import until

Hire = Callable[..., Worker]
LONG_S = 1.2

began: dict[Any, list[float]] = {}
"""When the work on each payload began, by the wall clock, s."""
gate = threading.Event()


def note(payload: Any) -> None:
    began.setdefault(payload, []).append(time.time())


@actor("claimer.short")
def short(payload: Any) -> None:
    note(payload)


@actor("claimer.long")
def long(payload: Any) -> None:
    note(payload)
    time.sleep(LONG_S)


@actor("claimer.gate")
def gated(payload: Any) -> Any:
    note(payload)
    gate.wait(20)
    return payload


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    began.clear()
    gate.clear()
    yield
    gate.set()


@pytest.fixture
def hire(proxy: Proxy, tmp_path: Path) -> Iterator[Hire]:
    """Start a worker with these settings, by way of the proxy; the second has a broker of its own."""
    workers: list[Worker] = []

    def start(threads: int = 2, **settings: Any) -> Worker:
        asked = {"db_dsn": proxy.dsn, "data_dir": tmp_path, "lease_s": 6.0, "reap_s": 0.2, "poll_s": 0.2, **settings}
        runtime = Runtime(config.load(**asked))
        at = broker
        if broker.keeper is not None:
            at = LeaseBroker()
            at.actors = broker.actors
            at.declare_queue(QUEUE)
        worker = Worker(runtime, threads=threads, broker=at)
        workers.append(worker)
        worker.start()
        until(lambda: runtime.listener.hears(JOB_QUEUED))
        return worker

    yield start
    gate.set()
    proxy.restore()
    for worker in workers:
        if worker.broker.keeper is worker.keeper:
            worker.drain(5)
        worker.runtime.close()


def rows(sql: Connection) -> list[dict[str, Any]]:
    return sql.execute(
        "SELECT id, kind, payload, status, attempts, releases, crashes, extract(epoch FROM begun_at)::float8 AS begun,"
        " extract(epoch FROM run_at)::float8 AS due FROM llm.jobs"
    ).fetchall()


def over(sql: Connection) -> bool:
    return all(row["status"] == "done" for row in rows(sql))


def test_no_job_waits_in_memory_behind_long_ones_while_another_worker_is_idle(
    hire: Hire, jobs: Jobs, sql: Connection
) -> None:
    """Two thousand short ones first, so that many are held ahead; then long ones between them."""
    hire(), hire()
    numbers = iter(range(10_000))

    def batch(kind: str, n: int) -> list[Submission]:
        return [Submission(kind=kind, payload=next(numbers)) for _ in range(n)]

    jobs.submit_many(batch("claimer.short", 2000))
    until(lambda: len(began) > 500)
    mixed: list[Submission] = []
    for _ in range(6):
        mixed += batch("claimer.long", 1) + batch("claimer.short", 150)
    jobs.submit_many(mixed)
    until(lambda: over(sql), timeout_s=60, every_s=0.2)
    assert all(len(times) == 1 for times in began.values())
    waited = sorted(began[int(row["payload"])][0] - row["begun"] for row in rows(sql))
    assert waited[-1] < LONG_S * 0.75, waited[-10:]
    assert {(row["attempts"] - row["releases"], row["crashes"]) for row in rows(sql)} == {(1, 0)}


def test_a_delayed_job_begins_at_its_time_though_nobody_polls(hire: Hire, jobs: Jobs, sql: Connection) -> None:
    hire(poll_s=60.0)
    for n in range(3):
        jobs.submit(Submission(kind="claimer.short", payload=n, delay_s=0.7))
        until(lambda: over(sql), timeout_s=10)
    late = sorted(began[int(row["payload"])][0] - row["due"] for row in rows(sql))
    assert late[0] >= -0.005
    assert late[0] < 0.06, late
    assert late[-1] < 0.5, late


def test_one_behind_it_of_long_ago_is_not_forgotten_over_it(hire: Hire, jobs: Jobs, sql: Connection) -> None:
    """Of several delayed jobs each has its time, in whatever order they came."""
    hire(poll_s=60.0)
    delays = [3.6, 1.2, 2.4, 1.8]
    jobs.submit_many(Submission(kind="claimer.short", payload=n, delay_s=s) for n, s in enumerate(delays))
    until(lambda: over(sql), timeout_s=10)
    assert [n for n, _ in sorted(began.items(), key=lambda item: item[1])] == [1, 3, 2, 0]
    assert max(began[int(row["payload"])][0] - row["due"] for row in rows(sql)) < 0.5  # or it came with the next


def test_no_job_is_run_twice_or_never_though_replies_are_lost(
    hire: Hire, jobs: Jobs, sql: Connection, proxy: Proxy
) -> None:
    hire(threads=4)
    n = 0
    for _ in range(3):
        jobs.submit_many(Submission(kind="claimer.short", payload=n + i) for i in range(400))
        n += 400
        until(lambda: len(began) > n - 350)  # noqa: B023 - asked at once
        proxy.lose_a_reply()
        assert proxy.lost.wait(10)
        proxy.restore()
    until(lambda: over(sql), timeout_s=30, every_s=0.1)
    assert len(began) == n
    assert {len(times) for times in began.values()} == {1}
    assert {(row["attempts"] - row["releases"], row["crashes"]) for row in rows(sql)} == {(1, 0)}
    (attempts,) = sql.execute("SELECT count(*) AS n FROM llm.job_attempts WHERE status = 'done'").fetchall()
    assert attempts["n"] == n


def test_the_database_is_away_in_the_middle_of_leaving(hire: Hire, jobs: Jobs, sql: Connection, proxy: Proxy) -> None:
    worker = hire(threads=2, liveness=False)
    jobs.submit_many(Submission(kind="claimer.gate", payload=n) for n in range(3))
    until(lambda: len(began) == 2)
    leaving = threading.Thread(target=worker.drain, args=(10.0,))
    proxy.refuse()
    leaving.start()
    gate.set()
    until(lambda: worker.keeper.draining)
    assert worker.keeper.held == 2
    time.sleep(0.5)
    proxy.restore()
    leaving.join(20)
    assert not leaving.is_alive()
    assert Counter(row["status"] for row in rows(sql)) == {"done": 2, "queued": 1}


@pytest.mark.parametrize("after_s", [0.0, 0.003, 0.02, 0.05, 0.1, 0.3])
def test_whoever_leaves_at_whatever_moment_leaves_nothing_behind(
    hire: Hire, jobs: Jobs, sql: Connection, after_s: float
) -> None:
    worker = hire(threads=4)
    jobs.submit_many(Submission(kind="claimer.short", payload=n) for n in range(1500))
    time.sleep(after_s)  # the moment is what is tried
    assert worker.drain(10.0)
    found = rows(sql)
    assert {row["status"] for row in found} <= {"queued", "done"}
    done = {int(row["payload"]) for row in found if row["status"] == "done"}
    assert done == set(began)
    assert all(len(times) == 1 for times in began.values())
    assert {(row["attempts"] - row["releases"], row["crashes"]) for row in found} <= {(1, 0), (0, 0)}


def test_who_is_hurried_gives_back_what_it_did_not_begin(hire: Hire, jobs: Jobs, sql: Connection) -> None:
    """Two long ones at work, and short ones that wait in memory."""
    worker = hire(threads=2)
    jobs.submit_many(Submission(kind="claimer.short", payload=n) for n in range(400))
    until(lambda: over(sql))
    jobs.submit_many(
        Submission(kind="claimer.long" if n < 402 else "claimer.short", payload=n) for n in range(400, 600)
    )
    until(lambda: 401 in began and 400 in began)
    assert not worker.drain(0.0)
    found = rows(sql)
    assert Counter(row["status"] for row in found if int(row["payload"]) >= 402)["running"] == 0
    assert not any(row["status"] == "running" for row in found)
    assert {(row["attempts"] - row["releases"], row["crashes"]) for row in found} <= {(1, 0), (0, 0)}
