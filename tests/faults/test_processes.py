"""What happens to worker processes: killed, stopped and let go, started and stopped, poisoned."""

from __future__ import annotations

import random

import pytest

from tests.faults.clients import wanted
from tests.faults.ground import DRAIN_S, LEASE_S, THREADS, Ground, Member, lost_leases
from tests.waiting import until

_TAKEN_OVER = """
SELECT worker_id, extract(epoch FROM taken_at)::float8 AS taken_at FROM (
    SELECT worker_id, reason, lead(started_at) OVER (PARTITION BY job_id ORDER BY attempt) AS taken_at
      FROM llm.job_attempts) AS tries
 WHERE reason = 'lease_expired' AND taken_at IS NOT NULL"""


def recoveries_s(ground: Ground, killed: dict[str, float]) -> list[float]:
    """Return for each job that a killed worker held how long after the kill it was begun again, s.

    `killed`: wall clocks of their ends by the workers' ids, s.
    """
    return [row["taken_at"] - killed[row["worker_id"]] for row in ground.rows(_TAKEN_OVER)]


@pytest.mark.parametrize(
    ("liveness", "lease_s", "bound_s"), [(True, 15.0, 6.0), (False, LEASE_S, LEASE_S + 2.0)], ids=["session", "lease"]
)
@pytest.mark.parametrize("seconds", [4.0, pytest.param(60.0, marks=pytest.mark.soak)])
def test_workers_killed_at_random_cost_a_try_and_seconds(
    ground: Ground, liveness: bool, lease_s: float, bound_s: float, seconds: float
) -> None:
    """With sessions that tell who lives, long before the lease; without, by the lease and two seconds."""
    workers = ground.workers("a", "b", liveness=liveness, lease_s=lease_s)
    ground.client("client", lambda key: wanted(key, s=0.7), every_s=0.15)
    rng, killed = random.Random(1), dict[str, float]()

    def kill() -> None:
        if able := [worker for worker in workers if worker.alive and worker.line]:
            victim = rng.choice(able)
            killed[ground.holder(victim)] = victim.kill()

    ground.spend(seconds, kill, every_s=1.5 if seconds < 60 else 2.5)
    ground.verdict()
    waits_s = recoveries_s(ground, killed)
    assert waits_s, "no killed worker held a job"
    assert max(waits_s) <= bound_s


SOAKED = pytest.mark.parametrize(
    "liveness", [pytest.param(True, id="session"), pytest.param(False, id="lease", marks=pytest.mark.soak)]
)
"""In the long runs, also with leases alone to tell who lives."""


@SOAKED
def test_a_worker_stopped_past_its_lease_hands_in_nothing(ground: Ground, liveness: bool) -> None:
    """Its runs come to their ends all the same, or are cut then, in vain both; and it serves again."""
    _, frozen = ground.workers("leader", liveness=liveness) + ground.workers("frozen", liveness=liveness)
    ground.ask_for(2 * THREADS, s=1.5, deaf=True)
    until(lambda: ground.count("status = 'running'") == 2 * THREADS)
    frozen.freeze()
    until(lambda: ground.count("attempts = 2") == THREADS, timeout_s=LEASE_S + 5.0)
    frozen.thaw()
    assert lost_leases(ground.verdict()) == THREADS
    ground.ask_for(2 * THREADS, name="later", s=0.5)
    until(lambda: ground.count(f"status = 'running' AND worker_id = '{ground.holder(frozen)}'") > 0)
    ground.verdict()


def test_a_late_result_that_was_on_its_way_is_refused(ground: Ground) -> None:
    """The network keeps it until another worker has finished the job, then delivers it."""
    wire = ground.wire()
    _, cut_off = ground.workers("leader") + ground.workers("cut_off", db_dsn=wire.dsn, poll_s=60.0)
    ground.ask_for(2 * THREADS, "faults.call", s=0.6)  # it streams nothing: its first word is its result
    until(lambda: ground.count("status = 'running'") == 2 * THREADS)
    wire.hold()
    until(lambda: ground.count("status = 'done'") == 2 * THREADS, timeout_s=LEASE_S + 10.0)
    assert ground.count("attempts = 2") == THREADS
    wire.restore()
    until(lambda: "late result refused" in cut_off.said())
    assert lost_leases(ground.verdict()) == THREADS


@pytest.mark.soak
def test_a_leader_that_stands_still_is_followed_by_another(ground: Ground) -> None:
    (leader,) = ground.workers("leader")
    ground.ask_for(THREADS, s=1.0)
    until(lambda: ground.count("status = 'running'") == THREADS)
    ground.workers("other")
    leader.freeze()
    until(lambda: ground.count("status = 'done'") == THREADS, timeout_s=LEASE_S + 10.0)


@SOAKED
def test_a_pill_is_taken_out_after_three_workers_and_the_rest_gets_done(ground: Ground, liveness: bool) -> None:
    workers = ground.workers("a", "b", liveness=liveness)
    (pill,) = ground.ask_for(1, "chaos.pill", name="pill", priority=9)
    until(lambda: not all(worker.alive for worker in workers))  # who is beside it three times is taken out with it
    ground.ask_for(30, s=0.2)
    evidence = ground.verdict()
    (pill_id,) = pill.told
    assert [row["reason"] for row in evidence.attempts[pill_id]] == ["lease_expired"] * 3
    assert evidence.jobs[pill_id]["reason"] == "crashed"
    assert sum(row["status"] == "done" for row in evidence.jobs.values()) == 30


@pytest.mark.parametrize("cycles", [2, pytest.param(50, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_workers_told_to_stop_again_and_again_lose_nothing_and_count_nothing(ground: Ground, cycles: int) -> None:
    """Every job has one try only, and some take longer than a drain: given back, a try does not count."""
    workers = ground.workers("a", "b")
    rng = random.Random(2)
    lengths_s = [DRAIN_S + 0.7] if cycles == 2 else [0.1, 0.5, DRAIN_S + 0.7]
    client = ground.client("client", lambda key: wanted(key, s=rng.choice(lengths_s), max_attempts=1), every_s=0.3)
    stopped: list[Member] = []
    for n in range(cycles):
        worker = workers[n % 2]
        worker.wait_ready()
        until(lambda: ground.count("status = 'running'") >= 4)
        ground.spend(rng.uniform(0.1, 0.6))
        worker.ask_to_stop()
        assert worker.ended(DRAIN_S + 6.0) == 0
        worker.start()
        stopped.append(worker)
    client.stop()
    for worker in workers:
        worker.wait_ready()
    evidence = ground.verdict()
    assert {row["status"] for row in evidence.jobs.values()} == {"done"}
    assert lost_leases(evidence) == 0
    assert sum(row["releases"] for row in evidence.jobs.values()) > 0
