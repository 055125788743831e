"""Clocks that are wrong by an hour: a worker's, and Postgres's own while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.chaos.stage import Stage
from tests.faults.ground import LEASE_S, THREADS, Ground, lost_leases
from tests.waiting import until

_HOUR_S = 3600

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (apt install libfaketime)")


def wrong_by(seconds: int) -> dict[str, str]:
    """Return the environment of a process whose wall clock is wrong by so much."""
    return {"LD_PRELOAD": str(LIBRARY), "FAKETIME": f"{seconds:+d}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def test_a_workers_clock_decides_nothing(ground: Ground) -> None:
    """Neither when a lease ends nor when a job may begin, is late, or is over; an hour fast or slow.

    The jobs wait for a socket: under this library Python's sleep fails.
    """
    fast = ground.worker("fast", environment=wrong_by(_HOUR_S))
    slow = ground.worker("slow", environment=wrong_by(-_HOUR_S))
    ground.workers("right", worker_threads=1)
    fast.wait_ready()
    slow.wait_ready()
    ground.ask_for(2 * THREADS, "faults.call", s=LEASE_S + 0.5)
    ground.ask_for(2, "faults.call", name="delayed", delay_s=1.5)
    soon = datetime.now(UTC)
    ground.ask_for(2, "faults.call", name="late", s=20.0, deadline_at=soon + timedelta(seconds=3))
    ground.ask_for(2, "faults.call", name="in time", s=0.1, deadline_at=soon + timedelta(seconds=60))
    evidence = ground.verdict()
    assert lost_leases(evidence) == 0
    reasons = {row["key"]: row["reason"] for row in evidence.jobs.values()}
    assert {key for key, reason in reasons.items() if reason is not None} == {"late-0", "late-1"}
    for name in ("fast", "slow"):
        assert ground.rows("SELECT FROM llm.job_attempts WHERE worker_id LIKE %s AND status = 'done'", f"{name}-%")


@pytest.fixture
def stepped(tmp_path: Path) -> Iterator[tuple[Ground, Callable[[int], None]]]:
    """A ground whose Postgres has a clock that can be set while it runs, and what sets it: s from the true time."""
    stage = Stage()
    clock = stage.folder / "clock"
    clock.write_text("+0")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }.items():
            patch.setenv(name, value)
        stage.__enter__()

    def step(seconds: int) -> None:
        draft = clock.with_suffix(".draft")
        draft.write_text(f"{seconds:+d}")
        draft.chmod(0o644)
        draft.replace(clock)

    step(0)
    try:
        with Ground(stage, tmp_path) as ground:
            yield ground, step
    finally:
        stage.close()


@pytest.mark.parametrize(
    "steps_s", [(_HOUR_S, -_HOUR_S), pytest.param((-3 * _HOUR_S, 3 * _HOUR_S), marks=pytest.mark.soak)]
)
@pytest.mark.parametrize("liveness", [True, pytest.param(False, marks=pytest.mark.soak)])
def test_a_step_of_the_servers_clock_costs_a_try_at_most(
    stepped: tuple[Ground, Callable[[int], None]], liveness: bool, steps_s: tuple[int, int]
) -> None:
    """All leases end at once, or seem to end in an hour: nothing is done twice, and a dead worker is still found.

    Set back, what was queued before waits for its time to come again, here until the clock is right again.
    """
    ground, step = stepped
    killed, _ = ground.workers("a", "b", liveness=liveness)
    for n, step_s in enumerate(steps_s, 1):
        killed.wait_ready()
        ground.ask_for(2 * THREADS, name=f"running{n}", s=1.5)
        ground.ask_for(10, name=f"waiting{n}", s=0.1)
        until(lambda: ground.count("status = 'running'") == 2 * THREADS)
        step(step_s)
        (row,) = ground.rows("SELECT extract(epoch FROM clock_timestamp())::float8 AS at")
        assert abs(row["at"] - datetime.now(UTC).timestamp() - step_s) < 60
        ground.ask_for(10, name=f"after{n}", s=0.1)
        if liveness:
            killed.kill()
        ground.spend(0.0)
        done = f"status = 'done' AND idempotency_key !~ 'waiting' AND idempotency_key ~ '{n}-'"
        until(lambda done=done: ground.count(done) == 2 * THREADS + 10)  # type: ignore[misc] # a lambda with defaults
        step(0)
        evidence = ground.verdict(timeless=True)
        assert all(row["status"] == "done" for row in evidence.jobs.values())
        # Each step ends every lease of the moment, once.
        assert lost_leases(evidence) <= 4 * THREADS * n
