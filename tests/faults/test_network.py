"""What a cut, lossy or lying network between workers, clients and Postgres may cost: time, and nothing else."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from llm_mcp.embedded import postgres
from tests.chaos.stage import Stage
from tests.faults import netns
from tests.faults.clients import wanted
from tests.faults.ground import LEASE_S, THREADS, Ground, lost_leases
from tests.faults.netns import HERE, Network
from tests.waiting import until


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """A network apart."""
    if reason := netns.unavailable_reason():
        pytest.skip(reason)
    with Network() as made:
        yield made


@pytest.fixture(scope="module")
def far_stage(network: Network) -> Iterator[Stage]:
    """A server that listens at our end of its line too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(postgres._SETTINGS, "listen_addresses", f"127.0.0.1,{HERE}")
        with Stage() as made:
            with psycopg.connect(made.dsn, autocommit=True) as conn:
                row = conn.execute("SHOW hba_file").fetchone()
                assert row is not None
                with Path(row[0]).open("a") as rules:
                    rules.write(f"host all all {HERE}/30 scram-sha-256\n")
                conn.execute("SELECT pg_reload_conf()")
            yield made


@pytest.fixture
def far(far_stage: Stage, network: Network, tmp_path: Path) -> Iterator[Ground]:
    """Workers and clients over it."""
    with Ground(far_stage, tmp_path) as made:
        yield made
        network.restore()


def far_dsn(far: Ground) -> str:
    return psycopg.conninfo.make_conninfo(far.stage.dsn, host=HERE)


CALL_S = 5.0
"""Longer than a lease, and than it takes to notice that a session ended."""
UNLESS_NETWORK = [pytest.mark.soak] if netns.unavailable_reason() is None else []
"""Of what a network apart shows as well: in the long runs only, where there is one."""
CUTS = pytest.mark.parametrize("cuts_s", [(4.5,), pytest.param((6.0, 2.5, 1.0), marks=pytest.mark.soak)], ids=len)


def cut_now_and_then(
    ground: Ground, cut: Callable[[], None], restore: Callable[[], None], cuts_s: Sequence[float], **settings: Any
) -> None:
    """Cut off the one worker there is, once it makes calls and another has come, for so long each time, s."""
    for n, cut_s in enumerate(cuts_s):
        ground.ask_for(THREADS, "faults.call", name=f"cut{n}", s=CALL_S)
        until(lambda: ground.count("status = 'running'") == THREADS)
        if n == 0:
            ground.workers("other", **settings)
        cut()
        ground.spend(cut_s)
        restore()
        ground.verdict()
    assert ground.upstream.repeated() > 0
    assert ground.upstream.overlap_s() <= 0


@CUTS
@pytest.mark.parametrize("fault", ["cut", pytest.param("reset", marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    "liveness", [pytest.param(True, id="session"), pytest.param(False, id="lease", marks=pytest.mark.soak)]
)
def test_a_worker_behind_a_cut_line_lets_go_before_another_begins(
    far: Ground, network: Network, liveness: bool, fault: str, cuts_s: Sequence[float]
) -> None:
    """Silently, and by a wall that answers for everybody: no call of one job is open twice at a time."""
    far.workers("leader", modules="", liveness=liveness)  # none of these jobs is for it
    far.workers("far", liveness=liveness, db_dsn=far_dsn(far), through=network.through)
    cut_now_and_then(far, network.cut if fault == "cut" else network.reset, network.restore, cuts_s, liveness=liveness)


@CUTS
@pytest.mark.parametrize(
    ("fault", "lease_s"),
    [
        pytest.param("hold", LEASE_S, marks=pytest.mark.soak),
        pytest.param("cut", LEASE_S, marks=pytest.mark.soak),
        pytest.param("cut", 12.0, marks=UNLESS_NETWORK),
    ],
)
def test_a_worker_on_a_broken_wire_lets_go_before_another_begins(
    ground: Ground, fault: str, lease_s: float, cuts_s: Sequence[float]
) -> None:
    """As above without a network of its own: the server's end of a held wire stays open, that of a cut one closes."""
    wire = ground.wire()
    ground.workers("leader", modules="", lease_s=lease_s)
    ground.workers("cut_off", lease_s=lease_s, db_dsn=wire.dsn)
    cut_now_and_then(ground, wire.cut if fault == "cut" else wire.hold, wire.restore, cuts_s, lease_s=lease_s)


@pytest.mark.parametrize("seconds", [4.0, pytest.param(12.0, marks=pytest.mark.soak)])
def test_a_third_of_the_packets_may_be_lost(far: Ground, network: Network, seconds: float) -> None:
    """It is slower; no lease is lost."""
    far.workers("far", db_dsn=far_dsn(far), through=network.through, lease_s=9.0)
    network.lose(30)
    far.ask_for(THREADS, s=seconds)
    far.client("client", lambda key: wanted(key, s=0.2), every_s=0.5, limit=int(seconds))
    far.spend(seconds)
    network.restore()
    assert lost_leases(far.verdict()) == 0


@pytest.mark.parametrize("late_s", [pytest.param(0.5, marks=UNLESS_NETWORK)])
def test_a_wire_that_comes_and_goes_costs_no_lease(ground: Ground, late_s: float) -> None:
    """Everything arrives, late by up to `late_s` seconds."""
    wire, rng, stop = ground.wire(), random.Random(4), threading.Event()
    ground.workers("slow", db_dsn=wire.dsn)

    def stutter() -> None:
        while not stop.is_set():
            wire.hold()
            stop.wait(rng.uniform(0.1, late_s))
            wire.restore()
            stop.wait(0.05)

    thread = threading.Thread(target=stutter)
    thread.start()
    try:
        ground.ask_for(THREADS, s=LEASE_S + 0.5)
        client = ground.client("client", lambda key: wanted(key, s=0.2), every_s=0.3)
        ground.spend(LEASE_S + 0.5)
        client.stop()
        until(lambda: ground.count("status IN ('queued', 'running')") == 0, timeout_s=30)
    finally:
        stop.set()
        thread.join()
    assert lost_leases(ground.verdict()) == 0


@pytest.mark.parametrize("each", [15, pytest.param(50, marks=pytest.mark.soak)])
def test_a_submit_whose_reply_was_lost_is_written_once(ground: Ground, each: int) -> None:
    """A third of all replies are lost: as many jobs as were wanted are as many rows."""
    wire, count = ground.wire(), 6 * each
    clients = [ground.client(f"client{n}", wanted, dsn=wire.dsn, every_s=0.0, limit=each) for n in range(6)]
    wire.lose(0.3)
    until(lambda: not any(client.is_alive() for client in clients), timeout_s=60)
    wire.restore()
    assert wire.lost > each
    assert sum(asked.calls for client in clients for asked in client.asked) > count
    assert ground.count("true") == count
    ground.workers("worker")
    assert len(ground.verdict().jobs) == count


@pytest.mark.parametrize("count", [20, pytest.param(60, marks=pytest.mark.soak)])
def test_a_turn_whose_reply_was_lost_leases_nothing_to_nobody(ground: Ground, count: int) -> None:
    """So are replies to claims, results, streams and heartbeats: what was leased is found again and done, once."""
    wire = ground.wire()
    ground.workers("worker", db_dsn=wire.dsn, lease_s=6.0)
    wire.lose(0.3)
    ground.ask_for(2, name="long", s=4.0, deaf=True)
    ground.ask_for(count, s=0.01)
    until(lambda: ground.count("status IN ('queued', 'running')") == 0, timeout_s=60)
    assert wire.lost > count // 2
    assert lost_leases(ground.verdict()) <= 3


_LISTENERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND query ILIKE 'LISTEN%'"""


def test_jobs_are_found_by_looking_when_nobody_is_told(ground: Ground) -> None:
    """The sessions that hear of jobs are on a wire of their own: it is held, they are ended, a process stands still.

    The workers look once a second in any case.
    """
    wire = ground.wire()
    ground.workers("leader", modules="")  # none of these jobs is for it
    _, other = ground.workers("worker", "other", poll_s=1.0, db_direct_dsn=wire.dsn)

    def submit_some(name: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        for n in range(3):
            ground.ask_for(1, name=f"{name}{n}")
            goal = len(ground.asked)

            def done(goal: int = goal) -> bool:
                meanwhile()
                return ground.count("status = 'done'") == goal

            until(done, timeout_s=10, every_s=0.05)

    wire.hold()
    submit_some("half open")
    wire.restore()
    submit_some("terminated", lambda: ground.rows(_LISTENERS))
    other.freeze()
    submit_some("stopped")
    ground.verdict()
    (row,) = ground.rows(
        "SELECT max(started_at - queued_at) AS late FROM llm.job_attempts JOIN llm.jobs ON id = job_id"
    )
    assert row["late"].total_seconds() <= 2.0
