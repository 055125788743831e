"""Chains and groups run by a real worker, with a backstop that is too late to help."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_mcp import JobFailed, Run, actor, chain, config, group
from llm_mcp.broker import broker
from llm_mcp.job import Status
from llm_mcp.runtime import Runtime
from llm_mcp.store.pool import connect
from llm_mcp.worker import Worker
from tests.waiting import until

order: list[int] = []
gate = threading.Event()


@actor("flow.count")
def count(payload: Any, run: Run) -> int:
    """Note the turn and return one more than the job before."""
    order.append(payload["n"])
    return 1 + sum(map(int, run.inputs()))


@actor("flow.gate", max_attempts=1)
def gated(payload: Any, run: Run) -> str:
    """Return, or fail, when the gate opens."""
    while not gate.wait(0.01):
        run.check()
    if payload.get("fall"):
        raise ValueError("no")
    return "through"


@pytest.fixture
def worker(runtime: Runtime, dsn: str, tmp_path: Path) -> Iterator[Worker]:
    """A worker whose leader looks at nothing while a test lasts, and that polls as seldom."""
    order.clear()
    gate.clear()
    made = Worker(
        Runtime(config.load(db_dsn=dsn, data_dir=tmp_path, lease_s=60.0, reap_s=60.0, poll_s=30.0)), threads=4
    )
    made.start()
    with connect(dsn) as conn:  # its leader has had its turn
        until(lambda: conn.execute("SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted").rowcount)
    yield made
    gate.set()
    if broker.keeper is made.keeper:
        made.drain(5)
    made.runtime.close()


def test_a_chain_of_fifty(worker: Worker) -> None:
    last = chain(*(count.prepare(n=n) for n in range(50)))
    assert last.wait(timeout=30) == 50
    assert order == list(range(50))


def test_a_thousand_side_by_side_and_then_one(worker: Worker) -> None:
    many = group(*(count.prepare(n=n) for n in range(1000)))
    last = many.then(count, n=1000)
    assert last.wait(timeout=60) == 1001
    assert many.wait(timeout=1) == [1] * 1000
    assert order[-1] == 1000
    assert sorted(order) == list(range(1001))


def test_then_of_jobs_that_end_in_that_very_moment(worker: Worker) -> None:
    for n in range(100):
        assert count.submit(n=n).then(count, n=n).wait(timeout=10) == 2


def test_a_failure_is_told_at_once(worker: Worker) -> None:
    last = chain(gated.prepare(fall=True), count.prepare(n=0), count.prepare(n=1))
    gate.set()
    with pytest.raises(JobFailed) as raised:
        last.wait(timeout=10)
    assert raised.value.reason == "dependency_failed"
    assert order == []


def test_what_is_handed_in_by_a_worker_that_leaves_counts(worker: Worker) -> None:
    first = gated.submit()
    last = first.then(count, n=0)
    until(lambda: first.status is Status.RUNNING)
    leaving = threading.Thread(target=worker.drain, args=(10,))
    leaving.start()
    until(lambda: worker.keeper.draining)
    gate.set()
    leaving.join(15)
    assert first.status is Status.DONE
    with connect(worker.runtime.dsn) as conn:
        assert conn.execute("SELECT FROM llm.jobs WHERE id = %s AND NOT blocked", (last.id,)).rowcount == 1
