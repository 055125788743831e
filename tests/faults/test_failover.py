"""The primary is lost and a standby takes its place: workers and clients that were told of both find it themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_mcp.embedded.cluster import packaged_binaries
from tests.chaos.checker import judge
from tests.chaos.evidence import Evidence, gather
from tests.faults.clients import refusals, served, submit, wanted
from tests.faults.ground import THREADS, Ground, lost_leases
from tests.faults.replicas import Replicas
from tests.waiting import until

_BINARIES = packaged_binaries()
pytestmark = pytest.mark.skipif(
    _BINARIES is None or not (_BINARIES / "bin" / "pg_basebackup").exists(), reason="this Postgres has no pg_basebackup"
)


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[tuple[Ground, Replicas]]:
    """A ground over a primary that can be lost, without a standby so far."""
    stage = Replicas()
    with stage, Ground(stage, tmp_path) as ground:
        yield ground, stage


@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.soak)])
def test_a_standby_that_has_every_commit_takes_over(replicas: tuple[Ground, Replicas], rounds: int) -> None:
    """Nothing acknowledged is lost, no process of ours is started anew, and the jobs that ran are done once."""
    ground, stage = replicas
    stage.follow(synchronous=True)
    web = ground.member("web", "web", http_addr="127.0.0.1:0")
    members = [web, *ground.workers("a", "b")]
    web.wait_ready()
    pids = [member.pid for member in members]
    clients = [
        ground.client("web", lambda key: wanted(key, s=0.2), url=web.line),
        ground.client("library", lambda key: wanted(key, s=0.2)),
    ]
    for n in range(rounds):
        if n:
            stage.follow(synchronous=True)  # where the primary was that is lost
        ground.ask_for(THREADS, "faults.call", name=f"long{n}", s=2.5)
        served(clients)
        until(lambda: ground.count("status = 'running' AND kind = 'faults.call'") > 0)
        refused = refusals(clients)
        stage.power_cut()
        until(refused)
        stage.promote()
        served(clients)
    evidence = ground.verdict()
    assert all(row["status"] == "done" for row in evidence.jobs.values())
    assert [member.pid for member in members] == pids
    assert ground.upstream.overlap_s() <= 0


def without(evidence: Evidence, began_at: float, ended_at: float) -> Evidence:
    """Leave out the runs of that time, monotonic, whose leases nobody knows of any more."""
    for job_id, notes in evidence.notes.items():
        known = {(move["attempt"], move["holds"]) for move in evidence.moves.get(job_id, ())}
        evidence.notes[job_id] = [
            note for note in notes if (note.attempt, note.token) in known or not began_at < note.began_at < ended_at
        ]
    return evidence


@pytest.mark.parametrize("behind_s", [1.0, pytest.param(20.0, marks=pytest.mark.soak)])
def test_what_a_late_standby_never_got_is_submitted_again(replicas: tuple[Ground, Replicas], behind_s: float) -> None:
    """Only what was acknowledged since it fell behind is lost with the primary; its key brings it back, once."""
    ground, stage = replicas
    wire = ground.wire(stage.primary)
    stage.follow(wire.dsn, synchronous=False)
    ground.workers("a", "b")
    clients = [ground.client(name, lambda key: wanted(key, s=0.2)) for name in ("one", "two")]
    ground.ask_for(2 * THREADS, name="before", s=0.5)
    served(clients, 10)
    every = [*ground.asked, *(one for client in clients for one in client.asked)]
    safe = {one.key for one in every if one.told}
    stage.catch_up()
    behind_at = time.monotonic()
    wire.cut()
    ground.spend(behind_s)
    refused = refusals(clients)
    stage.power_cut()
    until(refused)
    stage.promote()
    served(clients)
    ground.heal()
    until(lambda: ground.count("status IN ('queued', 'running')") == 0, timeout_s=60)
    until(lambda: not any(client.is_alive() for client in clients))

    every = [*ground.asked, *(one for client in clients for one in client.asked)]
    there = {row["id"] for row in ground.rows("SELECT id FROM llm.jobs")}
    lost = [one for one in every if not one.told <= there]
    assert lost, "the standby was not behind"
    assert {one.key for one in lost}.isdisjoint(safe)
    for one in lost:
        one.told.clear()
    submit(ground.jobs(), lost)
    until(lambda: ground.count("status IN ('queued', 'running')") == 0, timeout_s=60)
    found = judge(without(gather(stage, every), behind_at, stage.promoted_at))
    assert found.good, (found.line, found.found)
    assert found.jobs == len(every) == ground.count("status = 'done'")


def test_a_server_that_takes_no_more_writes_is_left(replicas: tuple[Ground, Replicas]) -> None:
    """Its sessions stay open: who is told that nothing can be written there looks for the one that takes writes."""
    ground, stage = replicas
    stage.follow(synchronous=False)
    jobs, given_up_at = ground.jobs(), time.monotonic() + 20.0

    def refused() -> None:
        assert time.monotonic() < given_up_at, "it stays with a server that takes no writes"

    submit(jobs, [wanted("early")])
    stage.hand_over()
    submit(jobs, [wanted("late")], refused)
    assert {row["key"] for row in ground.rows("SELECT idempotency_key AS key FROM llm.jobs")} == {"early", "late"}


@pytest.mark.soak
def test_a_worker_leaves_a_server_that_takes_no_more_writes(replicas: tuple[Ground, Replicas]) -> None:
    """Also with the session that tells that it lives: at the other server it would be held for dead."""
    ground, stage = replicas
    stage.follow(synchronous=False)
    ground.workers("worker")
    ground.ask_for(2 * THREADS, name="before", s=0.1)
    until(lambda: ground.count("status = 'done'") == 2 * THREADS)
    stage.hand_over()
    ground.ask_for(2 * THREADS, name="after", s=3.0)
    assert lost_leases(ground.verdict()) == 0
