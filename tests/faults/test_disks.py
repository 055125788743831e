"""What a disk may do to Postgres: be full, under the data or under its log, or stand still."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.chaos.load import Asked
from tests.chaos.stage import Stage
from tests.faults.clients import refusals, served, wanted
from tests.faults.disks import fill, frozen, image_disk, memory_disk, move_log
from tests.faults.ground import LEASE_S, THREADS, Ground, lost_leases
from tests.faults.replicas import every_process
from tests.waiting import until

_PAD = random.Random(5).randbytes(20_000).hex()  # not to be compressed away


def draw(key: str) -> Asked:
    """A short job of some size."""
    return wanted(key, s=0.05, pad=_PAD)


@contextmanager
def removed(stage: Stage) -> Iterator[Stage]:
    """What is left in its folder once no disk lies over it."""
    try:
        yield stage
    finally:
        shutil.rmtree(stage.folder, ignore_errors=True)


@pytest.fixture
def data_disk(tmp_path: Path) -> Iterator[tuple[Ground, Path]]:
    """A ground whose data lies on a small disk, and that disk. The log is elsewhere: a full one stops the server."""
    with (
        removed(Stage()) as stage,
        memory_disk(stage.folder / "data", 512) as disk,
        stage,
        Ground(stage, tmp_path) as ground,
    ):
        move_log(ground, stage, stage.folder / "log")
        yield ground, disk


def test_a_full_disk_is_told_and_survived(data_disk: tuple[Ground, Path]) -> None:
    """Clients are told 503 while it is full; once there is room, all goes on by itself."""
    ground, disk = data_disk
    web = ground.member("web", "web", http_addr="127.0.0.1:0")
    web.wait_ready()
    ground.workers("worker")
    clients = [ground.client("web", draw, url=web.line), ground.client("library", draw)]
    served(clients, 1)
    filler = fill(disk)
    until(refusals(clients, 2))
    filler.unlink()
    served(clients)
    assert all(row["status"] == "done" for row in ground.verdict().jobs.values())


@pytest.fixture
def log_disk(tmp_path: Path) -> Iterator[tuple[Ground, Path]]:
    """A ground whose write-ahead log lies on a small disk, and that disk."""
    with (
        removed(Stage()) as stage,
        memory_disk(stage.folder / "small", 112) as disk,
        stage,
        Ground(stage, tmp_path) as ground,
    ):
        move_log(ground, stage, disk / "log")
        yield ground, disk


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.soak)])
def test_a_full_disk_under_the_log_loses_nothing(log_disk: tuple[Ground, Path], times: int) -> None:
    """Postgres gives up: clients are told 503. Once there is room it is started again, and all goes on."""
    ground, disk = log_disk
    web = ground.member("web", "web", http_addr="127.0.0.1:0")
    web.wait_ready()
    ground.workers("worker")
    clients = [ground.client("web", draw, url=web.line, every_s=0.02), ground.client("library", draw, every_s=0.02)]

    for _ in range(times):
        served(clients)
        ground.ask_for(THREADS, "faults.call", name=f"long{len(ground.asked)}", s=1.0)
        refused = refusals(clients, 2)
        filler = fill(disk)
        while not refused():
            use_up_log(ground)
        filler.unlink()
        ground.stage.restart()
        served(clients)
        # One that loses its lease three times in a row would be taken out as a pill.
        until(lambda: ground.count("kind = 'faults.call' AND status <> 'done'") == 0, timeout_s=30)
    assert "No space left on device" in said_by_postgres(ground)
    assert all(row["status"] == "done" for row in ground.verdict().jobs.values())


def use_up_log(ground: Ground) -> None:
    """Begin another file of the log: some were made ahead."""
    with suppress(psycopg.OperationalError):
        ground.rows("SELECT pg_switch_wal()")
    time.sleep(0.02)


def said_by_postgres(ground: Ground) -> str:
    """Return the lines of its log that say it panicked."""
    folder = Path(ground.rows("SHOW data_directory")[0]["data_directory"]) / "log"
    lines = [line for path in folder.iterdir() for line in path.read_text(errors="replace").splitlines()]
    return "\n".join(line for line in lines if "PANIC" in line)


Still = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def still_disk(tmp_path: Path) -> Iterator[tuple[Ground, Still]]:
    """A ground whose server has a disk of its own, and what makes that one stand still."""
    with (
        removed(Stage()) as stage,
        image_disk(stage.folder / "data") as disk,
        stage,
        Ground(stage, tmp_path) as ground,
    ):
        yield ground, lambda: frozen(disk)


def stand_still(ground: Ground, still: Still, seconds: float) -> None:
    """Have all stop for so long, s, with a client and calls in progress, and see who let go of what."""
    ground.workers("a", "b")
    client = ground.client("client", lambda key: wanted(key, s=0.1))
    ground.ask_for(2 * THREADS, "faults.call", name="long", s=seconds)
    until(lambda: len(ground.upstream.calls) == 2 * THREADS)
    served([client])
    began_at = time.monotonic()
    with still():
        ground.spend(seconds)
        calls = list(ground.upstream.calls)
    assert len(calls) == 2 * THREADS
    assert all(call.ended_at < began_at + LEASE_S for call in calls), "a call outlived its lease"
    served([client])
    evidence = ground.verdict()
    assert all(row["status"] == "done" for row in evidence.jobs.values())
    assert ground.upstream.repeated() >= 2 * THREADS
    assert ground.upstream.overlap_s() <= 0
    assert lost_leases(evidence) >= 2 * THREADS


SECONDS = pytest.mark.parametrize("seconds", [4.5, pytest.param(10.0, marks=pytest.mark.soak)])


@SECONDS
def test_a_disk_that_stands_still_doubles_nothing(still_disk: tuple[Ground, Still], seconds: float) -> None:
    """No commit comes back: workers let go of their calls before others could have their jobs."""
    stand_still(*still_disk, seconds)


@SECONDS
@pytest.mark.soak
def test_a_server_that_stands_still_doubles_nothing(ground: Ground, seconds: float) -> None:
    """The same when all of it does: it takes connections and says nothing."""

    @contextmanager
    def stopped() -> Iterator[None]:
        pids = every_process(ground.postmaster())
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)

    stand_still(ground, stopped, seconds)
