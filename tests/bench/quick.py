"""What the queue itself costs: jobs that do nothing, on an embedded Postgres with its default durability.

Prints figures and asserts none. Dramatiq's own in-memory broker runs beside it as the ceiling: it keeps nothing.
"""

from __future__ import annotations

import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import dramatiq
import psycopg
from dramatiq.brokers.stub import StubBroker

from llm_mcp import Runtime, actor, config, logs
from llm_mcp import runtime as runtimes
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.store.migrate import migrate
from llm_mcp.worker import Worker
from tests.conftest import new_scratch
from tests.waiting import until

_PATIENCE_S = 600.0
_UNFINISHED = "SELECT count(*) FROM llm.jobs WHERE status IN ('queued', 'running')"


@actor("bench.nothing")
def nothing(payload: Any) -> None:
    """Do nothing."""


@contextmanager
def _queue(threads: int) -> Iterator[Runtime]:
    """Give a runtime over a fresh embedded Postgres."""
    scratch = new_scratch("bench")
    try:
        with EmbeddedPostgres(scratch / "data") as server:
            migrate(server.dsn)
            runtime = Runtime(
                config.load(db_dsn=server.dsn, data_dir=scratch / "none", log_level="ERROR", worker_threads=threads)
            )
            logs.configure(runtime.settings)
            runtimes.use(runtime)
            try:
                yield runtime
            finally:
                runtimes.use(None)
                runtime.close()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _show(what: str, n: int, seconds: float) -> None:
    print(f"  {what:<46}{n:>8}{n / seconds:>12,.0f}")


def leased(jobs: int, threads: int) -> None:
    """Print how fast our queue takes, drains and turns around jobs."""
    with _queue(threads) as runtime, psycopg.connect(runtime.dsn, autocommit=True) as watch:

        def finished() -> bool:
            row = watch.execute(_UNFINISHED).fetchone()
            return row == (0,)

        alone, together = max(jobs // 4, 1), jobs - max(jobs // 4, 1)
        _show("submit, 1 thread", alone, _seconds(lambda: [nothing.submit({}) for _ in range(alone)]))
        with ThreadPoolExecutor(threads) as pool:
            taken = _seconds(lambda: list(pool.map(lambda _: nothing.submit({}), range(together))))
        _show(f"submit, {threads} threads", together, taken)

        worker = Worker(runtime, threads=threads)

        def drain() -> None:
            worker.start()
            until(finished, timeout_s=_PATIENCE_S, every_s=0.02)

        try:
            _show(f"drain, 1 process of {threads} threads", jobs, _seconds(drain))
            waits = sorted(_seconds(nothing.submit({}).wait) * 1000 for _ in range(100))
        finally:
            worker.drain(5.0)
        print(
            f"  {'submit to result on an idle worker, ms':<46}p50 {statistics.median(waits):.1f}, p95 {waits[94]:.1f}"
        )


def in_memory(jobs: int, threads: int) -> None:
    """Print how fast Dramatiq's stub broker, in memory, does the same."""
    broker = StubBroker()

    @dramatiq.actor(broker=broker)
    def stub() -> None:
        """Do nothing."""

    _show("submit, 1 thread", jobs, _seconds(lambda: [stub.send() for _ in range(jobs)]))
    worker = dramatiq.Worker(broker, worker_threads=threads)

    def drain() -> None:
        worker.start()
        broker.join(stub.queue_name, timeout=int(_PATIENCE_S * 1000))

    try:
        _show(f"drain, 1 process of {threads} threads", jobs, _seconds(drain))
    finally:
        worker.stop()


def run(jobs: int, threads: int) -> None:
    """Run both and print a table."""
    print(f"Python {platform.python_version()}, {platform.machine()}; jobs that do nothing")
    print(f"{'':48}{'jobs':>8}{'jobs/s':>12}")
    print("llm-mcp: rows in Postgres, leased, fenced, kept")
    leased(jobs, threads)
    print("dramatiq StubBroker: in memory, gone with its process")
    in_memory(jobs, threads)
