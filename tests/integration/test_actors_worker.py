"""A worker from its first claim to its last word: places, broken connections, drain, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_mcp import JobHandle, Run, actor, config
from llm_mcp.broker import broker
from llm_mcp.job import Job, Status, Submission
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.scheduler import Scheduler
from llm_mcp.store import leases as rows
from llm_mcp.store.listen import JOB_QUEUED, JOB_UPDATE
from llm_mcp.store.pool import connect
from llm_mcp.worker import Worker
from tests.waiting import until

Hire = Callable[..., Worker]

gates: dict[str, threading.Event] = {}
begun = threading.Semaphore(0)


@actor("work.gate")
def gate(payload: Any, run: Run) -> str:
    """Run until the gate opens, or until it must stop."""
    begun.release()
    while not gates[payload].wait(0.01):
        run.check()
    return "through"


@actor("work.deaf")
def deaf(payload: Any) -> str:
    """Run until the gate opens and hear of nothing."""
    begun.release()
    gates[payload].wait()
    return "through"


@pytest.fixture(autouse=True)
def _gates() -> Iterator[None]:
    while begun.acquire(blocking=False):
        pass
    gates.update({name: threading.Event() for name in "abcde"})
    yield
    for one in gates.values():
        one.set()


@pytest.fixture
def hire(dsn: str, runtime: Runtime, tmp_path: Path) -> Iterator[Hire]:
    """Start a worker with these settings; it is drained in the end."""
    workers: list[Worker] = []

    def start(threads: int = 4, **settings: Any) -> Worker:
        asked = {"db_dsn": dsn, "data_dir": tmp_path, "lease_s": 3.0, "reap_s": 0.1, "poll_s": 0.2, **settings}
        workers.append(Worker(Runtime(config.load(**asked)), threads=threads))
        workers[-1].start()
        return workers[-1]

    yield start
    for one in gates.values():
        one.set()
    for worker in workers:
        if broker.keeper is worker.keeper:
            worker.drain(5)
        worker.runtime.close()


@pytest.fixture
def worker(hire: Hire) -> Worker:
    return hire()


def job_of(handle: JobHandle) -> Job:
    """Wait for the job to be done."""
    found = until(lambda: (now := handle.job()).status.final and now)
    assert isinstance(found, Job)
    assert found.status is Status.DONE, found.error
    return found


def opened(name: str) -> JobHandle:
    """Submit a job that has its gate open."""
    gates[name].set()
    return gate.submit(name)


def test_a_job_longer_than_its_lease_is_run_once(worker: Worker) -> None:
    handle = deaf.submit("a")
    assert begun.acquire(timeout=20)
    time_up = time.monotonic() + 4.0  # the lease is of three seconds
    until(lambda: time.monotonic() > time_up)
    gates["a"].set()
    job = job_of(handle)
    assert (job.attempts, job.error) == (1, None)


def test_as_many_jobs_at_once_as_there_are_threads(hire: Hire) -> None:
    hire(threads=3)
    handles = [gate.submit(name) for name in "abcde"]
    for _ in range(3):
        assert begun.acquire(timeout=20)
    assert not begun.acquire(timeout=0.5)
    assert sorted(handle.status for handle in handles) == ["queued", "queued", "running", "running", "running"]
    for name in "abcde":
        gates[name].set()
    assert [handle.wait(timeout=20) for handle in handles] == ["through"] * 5


def test_who_watches_is_told_that_a_job_began_though_it_says_nothing(worker: Worker, runtime: Runtime) -> None:
    told: list[str] = []
    runtime.listener.hear(JOB_UPDATE, told.append)
    until(lambda: runtime.listener.hears(JOB_UPDATE))
    handle = gate.submit("a")
    until(lambda: str(handle.id) in told)
    assert handle.status is Status.RUNNING
    assert not worker.keeper._fresh


def test_a_broken_connection_costs_nothing(worker: Worker, dsn: str) -> None:
    handles = [gate.submit(name) for name in "abc"]
    for _ in handles:
        assert begun.acquire(timeout=20)
    with connect(dsn) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    for name in "abc":
        gates[name].set()
    jobs = [job_of(handle) for handle in handles]
    assert [job.attempts for job in jobs] == [1, 1, 1]
    assert opened("d").wait(timeout=20) == "through"


def test_who_drains_lets_work_finish_and_takes_no_more(hire: Hire) -> None:
    worker = hire(poll_s=60.0)  # no claim is on its way unless somebody is told of a job
    until(lambda: worker.runtime.listener.hears(JOB_QUEUED))
    job_of(opened("c"))
    assert begun.acquire(timeout=20)
    running = gate.submit("a")
    assert begun.acquire(timeout=20)
    finished: list[bool] = []
    draining = threading.Thread(target=lambda: finished.append(worker.drain(20)))
    draining.start()
    until(lambda: worker.keeper.draining)
    later = opened("b")
    gates["a"].set()
    draining.join(20)
    assert finished == [True]
    assert running.status is Status.DONE
    assert later.status is Status.QUEUED


def test_who_must_leave_gives_work_back_and_another_finishes_it(hire: Hire, jobs: Jobs) -> None:
    first = hire(threads=1)
    running, waiting = gate.submit("a"), gate.submit("b")
    assert begun.acquire(timeout=20)
    assert first.drain(0.2) is False
    assert running.status is waiting.status is Status.QUEUED
    assert [(a.status, a.reason) for a in jobs.attempts(running.id)] == [("error", "released")]
    gates["a"].set()
    gates["b"].set()
    hire()
    assert job_of(running).attempts == 2
    assert job_of(waiting).attempts == 1


def test_what_was_given_back_is_not_claimed_again_by_who_leaves(
    hire: Hire, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim may be on its way when the work is given back: it must not bring it home again."""
    on_its_way, turn = threading.Event(), rows.turn

    def late(*asked: Any, **options: Any) -> Any:
        if gates["b"].is_set():
            on_its_way.set()
            gates["c"].wait(0.4)  # longer than giving back takes
        return turn(*asked, **options)

    monkeypatch.setattr(rows, "turn", late)
    leaving = hire(threads=2)
    running = gate.submit("a")
    assert begun.acquire(timeout=20)
    gates["b"].set()
    assert on_its_way.wait(20)
    assert leaving.drain(0) is False
    assert running.status is Status.QUEUED
    assert [a.reason for a in jobs.attempts(running.id)] == ["released"]


def test_a_second_word_hurries(worker: Worker) -> None:
    gate.submit("a")
    assert begun.acquire(timeout=20)
    began_at = time.monotonic()
    assert worker.drain(60, hurry=lambda: True) is False
    assert time.monotonic() - began_at < 8


def test_jobs_that_are_claimed_and_not_begun_are_given_back(hire: Hire, jobs: Jobs) -> None:
    """Between the claim and a thread there is a queue in memory; whoever leaves empties it."""
    at_work = hire(threads=2)
    for thread in at_work._dramatiq.workers:
        thread.pause()
        assert thread.paused_event.wait(5)
    handles = [opened("a"), opened("b")]
    until(lambda: {handle.status for handle in handles} == {"running"})
    assert at_work.drain(0.1) is False
    for handle in handles:
        assert handle.status is Status.QUEUED
        assert [(a.status, a.reason) for a in jobs.attempts(handle.id)] == [("error", "released")]
    hire()
    assert [job_of(handle).attempts for handle in handles] == [2, 2]


def test_nothing_is_left_of_a_worker(hire: Hire, runtime: Runtime) -> None:
    before, middleware = threads(), list(broker.middleware)
    at_work = hire()
    assert opened("a").wait(timeout=20)
    assert at_work.fault() is None
    assert threads() > before
    assert at_work.drain(5) is True
    at_work.runtime.close()
    runtime.close()
    assert threads() <= before
    assert broker.middleware == middleware
    assert broker.keeper is None
    hire()  # and another can follow
    job_of(opened("a"))


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def test_a_thread_that_died_is_told(worker: Worker) -> None:
    worker._dramatiq.consumers["jobs"].running = False
    until(lambda: worker.fault() is not None)


def test_a_worker_says_what_it_takes(worker: Worker, jobs: Jobs) -> None:
    (seen,) = jobs.workers()
    assert seen.id == worker.id
    assert "work.gate" in seen.kinds
    assert jobs.get(jobs.submit(Submission(kind="work.gate", delay_s=60))).served
    assert not jobs.get(jobs.submit(Submission(kind="nobody.does.this"))).served


# — the process —


@pytest.fixture
def process(dsn: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process with a kind of the user's own, once it has said that it is ready."""
    (tmp_path / "work_kinds.py").write_text(
        "import threading\n"
        "from llm_mcp import actor\n"
        "@actor('work.slow')\n"
        "def slow(payload, run):\n"
        "    for _ in range(int(payload * 100)):\n"
        "        threading.Event().wait(0.01)\n"
        "        run.check()\n"
        "    return 'finished'\n"
    )
    settings = config.load(db_dsn=dsn, data_dir=tmp_path, modules="work_kinds", drain_s=20.0, poll_s=0.2)
    environment = config.child_environment(settings)
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
    code = "from llm_mcp import config, worker; worker.main(config.settings(), threads=2)"
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) as made:
        assert made.stdout is not None
        assert made.stdout.readline().startswith(b"ready worker ")
        yield made
        made.kill()


def test_a_process_drains_at_the_first_word(process: subprocess.Popen[bytes], jobs: Jobs) -> None:
    assert len(jobs.workers()) == 1
    handle = JobHandle(jobs, jobs.submit(Submission(kind="work.slow", payload=1.5)))
    until(lambda: handle.status is Status.RUNNING)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert handle.wait(timeout=1) == "finished"
    assert jobs.workers() == []


def test_a_process_gives_its_work_back_at_the_second(process: subprocess.Popen[bytes], jobs: Jobs) -> None:
    handle = JobHandle(jobs, jobs.submit(Submission(kind="work.slow", payload=60)))
    until(lambda: handle.status is Status.RUNNING)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert handle.status is Status.QUEUED
    assert [a.reason for a in jobs.attempts(handle.id)] == ["released"]


def test_a_process_that_was_killed_costs_one_try_and_a_few_seconds(
    process: subprocess.Popen[bytes], runtime: Runtime, jobs: Jobs
) -> None:
    """Its lease is of half a minute; its death is seen by the lock that its session held."""
    handle = JobHandle(jobs, jobs.submit(Submission(kind="work.slow", payload=60)))
    until(lambda: handle.status is Status.RUNNING)
    with connect(runtime.dsn) as conn:
        until(lambda: conn.execute("SELECT FROM llm.workers WHERE life_key IS NOT NULL").rowcount)
    survivor = Scheduler(runtime)
    survivor.start()
    try:
        process.kill()
        killed_at = time.monotonic()
        until(lambda: handle.status is Status.QUEUED)
        assert time.monotonic() - killed_at < 5
        assert handle.job().attempts == 1
    finally:
        survivor.stop()
