"""`llm-mcp worker --processes N`: one command, several processes; none takes another down, none is left behind."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from llm_mcp import config
from llm_mcp.config import Settings
from llm_mcp.job import Status, Submission
from llm_mcp.jobs import Jobs
from tests.acceptance.running import COMMAND, kill, living, wait_gone
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
PROMPT_S = 1.5
"""What a busy machine may need to begin a job on an idle thread; far less than any gated job takes."""


@dataclass
class Command:
    """One running `llm-mcp worker`, and the lines of its standard output as they come."""

    process: subprocess.Popen[str]
    lines: queue.Queue[str]

    def ready(self, count: int) -> list[str]:
        """Return the ids of the next `count` workers that say they are ready."""
        said = [self.lines.get(timeout=30) for _ in range(count)]
        assert all(line.startswith("ready worker ") for line in said), said
        return [line.removeprefix("ready worker ") for line in said]

    def members(self) -> list[int]:
        """Return the pids of its living child processes."""
        return list(living(lambda command, parent: parent == self.process.pid and "llm_mcp worker" in command))

    def stop(self) -> int:
        """Ask it to drain and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


Start = Callable[..., Command]


@pytest.fixture
def start(dsn: str, tmp_path: Path) -> Iterator[Start]:
    """Start `llm-mcp worker` over the fresh database with these words and settings; it is gone in the end."""
    started: list[Command] = []

    def begin(*words: str, **settings: Any) -> Command:
        asked = {"db_dsn": dsn, "data_dir": tmp_path, "modules": "tests.acceptance.gated", "poll_s": 0.2, **settings}
        environment = {**config.child_environment(config.load(**asked)), "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [*COMMAND, "worker", *words], env=environment, stdout=subprocess.PIPE, text=True, cwd="/"
        )
        made = Command(process, queue.Queue())
        reader = threading.Thread(target=_read, args=(process.stdout, made.lines))
        reader.start()
        started.append(made)
        readers.append(reader)
        return made

    readers: list[threading.Thread] = []
    yield begin
    for command, reader in zip(started, readers, strict=True):
        members = command.members()
        command.process.kill()
        command.process.wait()
        wait_gone(lambda *_: False, pids=members)
        reader.join(10)
        assert not reader.is_alive()


def _read(said: Any, lines: queue.Queue[str]) -> None:
    with said:
        for line in said:
            lines.put(line.rstrip("\n"))


@dataclass
class Gates:
    """The gated jobs of a test: submitted, watched, and let through."""

    folder: Path
    jobs: Jobs

    def submission(self, name: str, **payload: Any) -> Submission:
        """Return a job of that name that was not submitted yet."""
        return Submission(kind="test.gated", payload={"folder": str(self.folder), "name": name, **payload})

    def submit(self, name: str, **payload: Any) -> UUID:
        """Submit one."""
        return self.jobs.submit(self.submission(name, **payload))

    def begun(self, name: str, *, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait until it began; return when (wall clock, s) and in which process."""
        path = self.folder / f"begun-{name}"
        until(path.exists, timeout_s=timeout_s)
        return dict(json.loads(path.read_text()))

    def open(self, name: str) -> float:
        """Let it through; return when (wall clock, s)."""
        (self.folder / f"open-{name}").touch()
        return time.time()

    def done(self, job_id: UUID) -> bool:
        """Whether that job is done."""
        return self.jobs.get(job_id).status is Status.DONE


@pytest.fixture
def gates(jobs: Jobs, tmp_path: Path) -> Iterator[Gates]:
    """Gates that are all open in the end."""
    made = Gates(tmp_path / "gates", jobs)
    made.folder.mkdir()
    yield made
    for begun in made.folder.glob("begun-*"):
        made.open(begun.name.removeprefix("begun-"))


def warm_up(jobs: Jobs) -> None:
    """Run a burst of short jobs, after which a worker may buffer that kind."""
    burst = [jobs.submit(Submission(kind="echo", payload={"n": n})) for n in range(300)]
    for job_id in burst:
        until(lambda job_id=job_id: jobs.get(job_id).status is Status.DONE, timeout_s=30)  # type: ignore[misc] # a lambda with defaults


def refuses(jobs: Jobs) -> bool:
    """Whether nobody claims any more: a job submitted now stays queued while a place is free."""
    probe = jobs.submit(Submission(kind="echo"))
    try:
        until(lambda: jobs.get(probe).status is Status.DONE, timeout_s=1.0)
    except AssertionError:
        return True
    return False


def test_long_jobs_begin_at_once_while_a_thread_is_free_anywhere(start: Start, gates: Gates) -> None:
    """Nothing waits in one process's memory while another is idle, also after a burst of short jobs."""
    start("--processes", "2", "--threads", "4").ready(2)
    warm_up(gates.jobs)
    ids = [gates.submit(f"{n}") for n in range(8)]
    submitted_at = time.time()
    begun = [gates.begun(f"{n}", timeout_s=10) for n in range(8)]
    last_s = max(one["at"] for one in begun) - submitted_at
    print(f"8 long jobs on 2 processes x 4 threads: the last began {1000 * last_s:.0f} ms after the last submit")
    assert last_s < PROMPT_S
    pids = sorted({one["pid"] for one in begun})
    assert [sum(one["pid"] == pid for one in begun) for pid in pids] == [4, 4]

    for turn, pid in enumerate(reversed(pids)):
        name = f"late-{turn}"
        ids.append(gates.submit(name))
        opened_at = gates.open(next(str(n) for n, one in enumerate(begun) if one["pid"] == pid))
        late = gates.begun(name, timeout_s=10)
        print(f"a thread of {pid} was freed; the job that waited began {1000 * (late['at'] - opened_at):.0f} ms later")
        assert late["pid"] == pid
        assert 0 <= late["at"] - opened_at < PROMPT_S

    for name in (*map(str, range(8)), "late-0", "late-1"):
        gates.open(name)
    until(lambda: all(gates.done(job_id) for job_id in ids))
    for job_id in ids:  # nobody took one and gave it back
        assert len(gates.jobs.attempts(job_id)) == 1


def test_short_jobs_are_not_stuck_behind_long_ones(start: Start, gates: Gates) -> None:
    """Seven threads are held by long jobs; what is short goes by the eighth, wherever it is."""
    start("--processes", "2", "--threads", "4").ready(2)
    warm_up(gates.jobs)
    mixed: list[Submission] = []
    for n in range(7):
        mixed += [gates.submission(f"{n}"), *(Submission(kind="echo", payload={"n": m}) for m in range(10))]
    ids = [gates.jobs.submit(one) for one in mixed]
    submitted_at = time.time()
    last_s = max(gates.begun(f"{n}", timeout_s=10)["at"] for n in range(7)) - submitted_at
    short = [job_id for job_id, one in zip(ids, mixed, strict=True) if one.kind == "echo"]
    until(lambda: all(gates.done(job_id) for job_id in short), timeout_s=20, every_s=0.05)
    print(f"7 long jobs among 70 short ones: the last long one began after {1000 * last_s:.0f} ms")
    assert last_s < PROMPT_S


def test_a_member_that_dies_is_started_again_and_takes_no_other_with_it(start: Start, gates: Gates) -> None:
    command = start("--processes", "2", "--threads", "2", lease_s=30.0, reap_s=0.2)
    first = set(command.ready(2))
    ids = [gates.submit(f"{n}") for n in range(4)]
    begun = [gates.begun(f"{n}") for n in range(4)]
    victim = begun[0]["pid"]
    kill(victim)
    (again,) = command.ready(1)  # its line comes as it comes
    assert again not in first
    until(lambda: len(command.members()) == 2)
    assert victim not in command.members()
    for n in range(4):
        gates.open(f"{n}")
    until(lambda: all(gates.done(job_id) for job_id in ids), timeout_s=30)
    for one, job_id in zip(begun, ids, strict=True):
        assert gates.jobs.get(job_id).attempts == (2 if one["pid"] == victim else 1)
    assert command.stop() == 0


def test_all_members_drain_at_the_first_signal(start: Start, gates: Gates) -> None:
    command = start("--processes", "2", "--threads", "2")
    command.ready(2)
    ids = [gates.submit(f"{n}") for n in range(3)]
    members = {gates.begun(f"{n}")["pid"] for n in range(3)}
    assert len(members) == 2
    command.process.send_signal(signal.SIGTERM)
    until(lambda: refuses(gates.jobs))
    assert set(command.members()) == members
    for n in range(3):
        gates.open(f"{n}")
    assert command.process.wait(20) == 0
    assert [gates.jobs.get(job_id).attempts for job_id in ids if gates.done(job_id)] == [1, 1, 1]
    assert gates.jobs.workers() == []


def test_a_second_signal_hurries_all_members(start: Start, gates: Gates) -> None:
    command = start("--processes", "2", "--threads", "2", drain_s=600.0)
    command.ready(2)
    ids = [gates.submit(f"{n}") for n in range(3)]
    for n in range(3):
        gates.begun(f"{n}")
    command.process.send_signal(signal.SIGINT)
    until(lambda: refuses(gates.jobs))
    command.process.send_signal(signal.SIGTERM)
    assert command.process.wait(20) == 0
    for job_id in ids:
        assert gates.jobs.get(job_id).status is Status.QUEUED
        assert [attempt.reason for attempt in gates.jobs.attempts(job_id)] == ["released"]


@pytest.mark.parametrize("deaf", [False, True], ids=["a job that listens", "a job that hears nothing"])
def test_a_killed_master_leaves_no_orphan_and_no_lease(start: Start, gates: Gates, deaf: bool) -> None:
    command = start("--processes", "2", "--threads", "1", lease_s=600.0, drain_s=600.0)
    command.ready(2)
    ids = [gates.submit(f"{n}", deaf=deaf) for n in range(2)]
    members = {gates.begun(f"{n}")["pid"] for n in range(2)}
    killed_at = kill(command.process.pid)
    wait_gone(lambda *_: False, pids=members, timeout_s=10)
    gone_s = time.monotonic() - killed_at
    until(lambda: all(gates.jobs.get(job_id).status is Status.QUEUED for job_id in ids), timeout_s=10)
    print(f"members gone after {gone_s:.2f} s, leases free after {time.monotonic() - killed_at:.2f} s")
    assert gone_s < 4.0  # three, and one for a busy machine
    for job_id in ids:  # given back, not lost: the try does not count against the job
        assert [attempt.reason for attempt in gates.jobs.attempts(job_id)] == ["released"]


def test_one_process_has_no_master(start: Start, jobs: Jobs) -> None:
    command = start(worker_processes=1)
    (worker_id,) = command.ready(1)
    (worker,) = jobs.workers()
    assert (worker.id, worker.pid) == (worker_id, command.process.pid)
    assert command.members() == []
    assert command.stop() == 0


def test_the_setting_says_how_many_as_the_option_does(start: Start, jobs: Jobs) -> None:
    command = start(worker_processes=2)
    assert sorted(command.ready(2)) == sorted(worker.id for worker in jobs.workers())
    assert sorted(command.members()) == sorted(worker.pid or 0 for worker in jobs.workers())
    assert command.stop() == 0
    assert command.lines.empty()


def test_members_that_all_give_up_at_the_start_are_one_error(settings: Settings, tmp_path: Path) -> None:
    broken = settings.model_copy(update={"modules": "nowhere.to.be_found"})
    for words in (("--processes", "1"), ("--processes", "2")):
        made = subprocess.run(
            [*COMMAND, "worker", *words],
            env={**config.child_environment(broken), "LLM_MCP_LOG_FORMAT": "json"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=tmp_path,
        )
        assert made.returncode == 1
        assert "nowhere.to.be_found" in made.stderr
        assert "Traceback" not in made.stderr
        assert made.stdout == ""
    assert not living(lambda command, parent: parent == os.getpid() and "llm_mcp worker" in command)


def test_a_number_of_processes_that_is_none_is_refused(settings: Settings) -> None:
    for words, environment in ((("--processes", "0"), {}), ((), {"LLM_MCP_WORKER_PROCESSES": "0"})):
        made = subprocess.run(
            [*COMMAND, "worker", *words],
            env={**config.child_environment(settings), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert made.returncode in (1, 2)
        assert "processes" in made.stderr.lower()
