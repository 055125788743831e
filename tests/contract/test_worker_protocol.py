"""Workers written from the wire contract alone, as processes of their own, beside Dramatiq workers on one queue."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from llm_mcp import config
from llm_mcp.config import Settings
from llm_mcp.job import Status, Submission
from llm_mcp.jobs import Jobs
from tests.acceptance.running import COMMAND
from tests.integration.web.door import ROOT, Door
from tests.waiting import until

SCRIPT = Path(__file__).with_name("foreign_worker.py")
Start = Callable[..., "Foreign"]


class Foreign:
    """One process of such a worker. `ran` tells the jobs it ran to their end, as (id, attempt)."""

    def __init__(self, url: str, worker_id: str, kinds: str, log: Path, *options: str) -> None:
        self.worker_id = worker_id
        self._log = log
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(SCRIPT), url, worker_id, kinds, "--log", str(log), *options]
        )

    @property
    def ran(self) -> list[tuple[str, int]]:
        if not self._log.exists():
            return []
        lines = [line.split() for line in self._log.read_text().splitlines()]
        return [(job_id, int(attempt)) for job_id, attempt in lines]

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def door(settings: Settings, tmp_path: Path) -> Iterator[Door]:
    made = Door(settings, log=tmp_path / "web.log")
    yield made
    made.close()


@pytest.fixture
def start(door: Door, tmp_path: Path) -> Iterator[Start]:
    """Start workers of the contract; they are gone at the end."""
    started: list[Foreign] = []

    def begin(name: str, *options: str, kinds: str = "echo") -> Foreign:
        log = tmp_path / f"{name}.log"
        quick = ("--idle-s", "0.05", "--pause-s", "0.05", "--beat-s", "0.5")
        started.append(Foreign(door.url, name, kinds, log, *quick, *options))
        return started[-1]

    yield begin
    for one in started:
        one.kill()


@pytest.fixture
def ours(settings: Settings) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Start Dramatiq workers; they are gone at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        environment = {**config.child_environment(settings), "PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen([*COMMAND, "worker", "--threads", "2"], env=environment, cwd="/"))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def submitted(jobs: Jobs, n: int, **payload: Any) -> list[UUID]:
    return jobs.submit_many([Submission(kind="echo", payload={"n": i, **payload}, max_attempts=5) for i in range(n)])


def finish(jobs: Jobs, job_ids: list[UUID], *, timeout_s: float = 90.0) -> Counter[str]:
    """Wait until all are done, each by one attempt and with its own result; return who did how many."""
    until(lambda: all(jobs.get(job_id).status.final for job_id in job_ids), timeout_s=timeout_s, every_s=0.2)
    done_by: Counter[str] = Counter()
    for number, job_id in enumerate(job_ids):
        job = jobs.get(job_id)
        assert job.status is Status.DONE, (job.reason, job.error)
        assert f'"n":{number}' in (job.result or "")
        [done] = [attempt for attempt in jobs.attempts(job_id) if attempt.status == "done"]
        done_by[done.worker_id] += 1
    return done_by


def test_it_works_as_it_does_on_the_contract_s_own_server(start: Start, jobs: Jobs) -> None:
    """At its own pace and with its own words: the flat result, the figures, the error."""
    worker = start("w")
    job_id, failing = (
        jobs.submit(Submission(kind="echo", payload={"a": 1})),
        jobs.submit(Submission(kind="echo", payload={"fail": True}, max_attempts=1)),
    )
    done, failed = jobs.wait(job_id, timeout_s=30), jobs.wait(failing, timeout_s=30)
    assert done.result == '{"ok":true,"echo":{"a":1}}'
    assert (failed.reason, failed.error) == ("failed", "missing OPENAI_API_KEY")
    assert worker.process.poll() is None
    [attempt] = jobs.attempts(job_id)
    assert (attempt.worker_id, attempt.status) == ("w", "done")
    assert {known.id for known in jobs.workers()} == {"w"}


def test_foreign_and_our_own_workers_share_a_queue(
    start: Start, ours: Callable[[], subprocess.Popen[bytes]], jobs: Jobs
) -> None:
    ours()
    until(lambda: len(jobs.workers()) == 1)
    workers = [start("one"), start("two")]
    until(lambda: len(jobs.workers()) == 3)
    job_ids = list(itertools.chain(*(submitted(jobs, 100) for _ in range(3))))
    done_by = Counter[str]()
    for batch in range(3):
        done_by += finish(jobs, job_ids[100 * batch : 100 * batch + 100])
    assert done_by["one"] > 0
    assert done_by["two"] > 0
    assert len(done_by) == 3
    assert sum(done_by.values()) == 300
    for worker in workers:  # what it ran is what it is known to have run: nothing ran twice
        assert len(worker.ran) == len(set(worker.ran)) == done_by[worker.worker_id]


@pytest.mark.parametrize("killed", ["foreign", "ours"])
def test_whoever_is_killed_no_job_is_lost_and_none_is_done_twice(
    start: Start, ours: Callable[[], subprocess.Popen[bytes]], jobs: Jobs, killed: str
) -> None:
    """The leases of the dead end (two seconds here) and others do their jobs; a result is handed in once."""
    process = ours()
    until(lambda: len(jobs.workers()) == 1)
    short = ("--lease-s", "2")
    foreign = start("foreign", *short, "--work-s", "0.3")
    start("survivor", *short)
    job_ids = submitted(jobs, 200)
    held = start("held", *short, "--work-s", "60", kinds="held") if killed == "foreign" else None
    lonely = jobs.submit(Submission(kind="held", max_attempts=5)) if held else None
    if held is not None and lonely is not None:
        until(lambda: jobs.get(lonely).status is Status.RUNNING)
        held.kill()
        foreign.kill()
    else:
        until(lambda: any(attempt.worker_id != "foreign" for attempt in jobs.attempts(job_ids[0])))
        process.kill()
        process.wait(10)
    ours()
    finish(jobs, job_ids)
    if lonely is not None:
        start("heir", *short, kinds="held")
        assert jobs.wait(lonely, timeout_s=30).attempts == 2
        assert [attempt.reason for attempt in jobs.attempts(lonely)] == ["lease_expired", None]


def test_one_that_stands_still_and_wakes_again_changes_nothing(start: Start, jobs: Jobs) -> None:
    """Its lease ended meanwhile and another did the job: its result comes too late, and it works on."""
    sleeper = start("sleeper", "--lease-s", "1", "--work-s", "1.0")
    (job_id,) = submitted(jobs, 1)
    until(lambda: jobs.get(job_id).status is Status.RUNNING)
    sleeper.process.send_signal(signal.SIGSTOP)
    start("other", "--lease-s", "5")
    scheduler = _sweeping(jobs)
    assert jobs.wait(job_id, timeout_s=30).status is Status.DONE
    before = jobs.get(job_id)
    sleeper.process.send_signal(signal.SIGCONT)
    until(lambda: sleeper.ran)
    (after,) = submitted(jobs, 1, work_s=0.0)
    jobs.wait(after, timeout_s=30)
    assert jobs.get(job_id) == before
    assert [attempt.worker_id for attempt in jobs.attempts(job_id)] == ["sleeper", "other"]
    time.sleep(0.3)
    assert sleeper.process.poll() is None
    scheduler.stop()


def test_a_long_job_is_kept_by_its_heartbeats(start: Start, jobs: Jobs) -> None:
    start("slow", "--lease-s", "1", "--work-s", "3")
    scheduler = _sweeping(jobs)
    (job_id,) = submitted(jobs, 1)
    assert jobs.wait(job_id, timeout_s=30).attempts == 1
    scheduler.stop()


def test_a_worker_outlives_a_server_that_is_started_again(
    start: Start, settings: Settings, jobs: Jobs, door: Door, tmp_path: Path
) -> None:
    """A result in hand when the server is killed is handed in again, as it was, under the same lease."""
    (job_id,) = submitted(jobs, 1)
    status, told = door.call("POST", "/v1/workers/claim", {"worker_id": "w", "kinds": ["echo"]})
    assert (status, told["job"]["id"]) == (200, str(job_id))
    body = {"worker_id": "w", "job_id": str(job_id), "result": {"n": 0}}
    assert door.call("POST", "/v1/workers/complete", body) == (200, {"ok": True})
    door.kill()
    again = Door(settings, log=tmp_path / "again.log")
    try:
        assert again.call("POST", "/v1/workers/complete", body) == (200, {"ok": True})
        assert jobs.get(job_id).attempts == 1
    finally:
        again.close()


def _sweeping(jobs: Jobs) -> Any:
    """Start what takes back ended leases; a worker of ours, or `llm-mcp up`, has one."""
    from llm_mcp.scheduler import Scheduler

    scheduler = Scheduler(jobs.runtime)
    scheduler.start()
    return scheduler
