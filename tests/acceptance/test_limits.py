"""Limits across worker processes: seen from inside the actors, through the database."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_mcp import config
from llm_mcp.job import Job, Status, Submission
from llm_mcp.jobs import Jobs
from llm_mcp.limits import Limits, Queues
from llm_mcp.store.listen import JOB_UPDATE
from llm_mcp.store.pool import connect
from tests.acceptance.running import COMMAND
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(dsn: str, tmp_path: Path) -> Iterator[Start]:
    """Start a worker of one process over the fresh database and wait until it claims; it is gone in the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(*, modules: str = "tests.acceptance.placed", threads: int = 4, **settings: Any) -> subprocess.Popen[str]:
        asked = {"db_dsn": dsn, "data_dir": tmp_path, "modules": modules, "log_level": "ERROR", **settings}
        process = subprocess.Popen(
            [*COMMAND, "worker", "--threads", str(threads)],
            env={**config.child_environment(config.load(**asked)), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready worker ")
        return process

    yield begin
    for process in started:
        process.send_signal(signal.SIGTERM)
    for process in started:
        try:
            process.wait(30)
        finally:
            process.kill()
            if process.stdout is not None:
                process.stdout.close()


def ended(jobs: Jobs, job_ids: list[Any], *, timeout_s: float = 60.0) -> list[Job]:
    until(lambda: jobs.page(limit=1, status=Status.QUEUED) == [], timeout_s=timeout_s, every_s=0.05)
    return [jobs.wait(job_id, timeout_s=timeout_s) for job_id in job_ids]


def test_never_more_at_once_in_three_processes_and_both_places_are_kept_busy(start: Start, jobs: Jobs) -> None:
    Limits(jobs.runtime).set("test.placed", max_running=2)
    for _ in range(3):
        start(poll_s=5.0)
    payload = {"places": 2, "hold_s": 0.1}
    job_ids = jobs.submit_many([Submission(kind="test.placed", payload=payload) for _ in range(100)])
    told = [json.loads(job.result or "") for job in ended(jobs, job_ids)]
    assert [one for one in told if one["crowded"]] == []
    moments = sorted([(one["from"], 1) for one in told] + [(one["to"], -1) for one in told])
    running = most = 0
    for _, change in moments:
        running += change
        most = max(most, running)
    assert most == 2
    busy_s = sum(one["to"] - one["from"] for one in told)
    assert busy_s / (2 * (moments[-1][0] - moments[0][0])) > 0.6


def test_a_place_that_its_worker_does_not_take_is_taken_by_another_at_once(
    start: Start, jobs: Jobs, tmp_path: Path
) -> None:
    """The first worker goes on with something else that only it can do; nobody looks by the clock."""
    Limits(jobs.runtime).set("test.gated", max_running=1)
    both = start(modules="tests.acceptance.gated,tests.acceptance.slow_words", threads=1, poll_s=60.0)
    first = gated(jobs, tmp_path, "first")
    until((tmp_path / "begun-first").exists)
    start(modules="tests.acceptance.gated", threads=1, poll_s=60.0)
    settled(jobs)
    second = gated(jobs, tmp_path, "second")
    other = jobs.submit(Submission(kind="test.slow_words", payload={"count": 100, "pause_s": 0.1}, priority=9))
    (tmp_path / "open-first").touch()
    jobs.wait(first, timeout_s=10)
    until((tmp_path / "begun-second").exists, timeout_s=5)
    assert json.loads((tmp_path / "begun-second").read_text())["pid"] != both.pid
    assert jobs.get(other).status is Status.RUNNING
    (tmp_path / "open-second").touch()
    jobs.wait(second, timeout_s=10)
    jobs.cancel(other)


def test_a_place_that_a_draining_worker_leaves_is_taken_at_once(start: Start, jobs: Jobs, tmp_path: Path) -> None:
    Limits(jobs.runtime).set("test.gated", max_running=1)
    leaving = start(modules="tests.acceptance.gated", threads=1, poll_s=60.0, drain_s=30.0)
    first = gated(jobs, tmp_path, "first")
    until((tmp_path / "begun-first").exists)
    start(modules="tests.acceptance.gated", threads=1, poll_s=60.0)
    settled(jobs)
    gated(jobs, tmp_path, "second")
    leaving.send_signal(signal.SIGTERM)
    time.sleep(0.5)  # it is draining when its job ends, or it takes the next one itself and there is nothing to see
    (tmp_path / "open-first").touch()
    jobs.wait(first, timeout_s=10)
    until((tmp_path / "begun-second").exists, timeout_s=5)
    (tmp_path / "open-second").touch()


def settled(jobs: Jobs) -> None:
    """Wait until both workers hear notices, and the idle one has looked since."""
    with connect(jobs.runtime.dsn) as conn:
        listening = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'"
        own = 1 if jobs.runtime.listener.hears(JOB_UPDATE) else 0
        until(lambda: conn.execute(listening).rowcount >= 2 + own)
    jobs.wait(jobs.submit(Submission(kind="echo")), timeout_s=10)


def gated(jobs: Jobs, folder: Path, name: str) -> Any:
    return jobs.submit(Submission(kind="test.gated", payload={"folder": str(folder), "name": name}))


def test_a_rate_holds_for_all_processes_and_is_used(start: Start, jobs: Jobs) -> None:
    Limits(jobs.runtime).set("test.placed", rate="10/s", burst=1)
    for _ in range(2):
        start(poll_s=5.0)
    payload = {"places": 9, "hold_s": 0.3}
    job_ids = jobs.submit_many([Submission(kind="test.placed", payload=payload) for _ in range(30)])
    begun = sorted(jobs.attempts(job.id)[0].started_at for job in ended(jobs, job_ids))
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(begun)]
    assert min(gaps) >= 0.1 - 1e-6
    assert (begun[-1] - begun[0]).total_seconds() < 6  # 2.9 s would be perfect


def test_what_code_declares_stands_until_an_operator_says_otherwise(start: Start, jobs: Jobs) -> None:
    limits = Limits(jobs.runtime)
    first = start()
    (made,) = limits.every()
    assert (made.kind, made.max_running, made.rate, made.per_s, made.burst) == ("test.declared", 3, 600, 60.0, 1)
    limits.set("test.declared", max_running="any", rate="any")
    first.send_signal(signal.SIGTERM)
    first.wait(30)
    start()
    (made,) = limits.every()
    assert (made.max_running, made.rate) == (None, None)


def test_a_queue_is_paused_and_resumed_under_workers(start: Start, jobs: Jobs) -> None:
    queues = Queues(jobs.runtime)
    start(poll_s=60.0)
    queues.pause("default")
    job_id = jobs.submit(Submission(kind="echo", payload={"n": 1}))
    (listed,) = queues.every()
    assert (listed.name, listed.queued, listed.running) == ("default", 1, 0)
    time.sleep(0.3)  # the notice of the submit has gone by
    assert jobs.get(job_id).status is Status.QUEUED
    queues.resume("default")
    assert jobs.wait(job_id, timeout_s=5).status is Status.DONE


def test_a_running_job_is_taken_from_its_worker_and_run_again(start: Start, jobs: Jobs, tmp_path: Path) -> None:
    start(modules="tests.acceptance.gated", threads=2, poll_s=5.0, lease_s=60.0)
    job_id = gated(jobs, tmp_path, "first")
    until((tmp_path / "begun-first").exists)
    (tmp_path / "begun-first").unlink()
    assert jobs.requeue([job_id]) == [job_id]
    until((tmp_path / "begun-first").exists, timeout_s=10)
    assert json.loads((tmp_path / "begun-first").read_text())["attempt"] == 2
    (tmp_path / "open-first").touch()
    job = jobs.wait(job_id, timeout_s=10)
    assert (job.status, job.attempts) == (Status.DONE, 2)
    assert [(one.status, one.reason) for one in jobs.attempts(job_id)] == [("error", "released"), ("done", None)]
