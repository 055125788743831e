"""Dramatiq with its stub broker: in memory, in one process, gone with it. The most that Dramatiq itself can do.

    python -m llm_mcp.selftest.stub JOBS THREADS OWNER

Says `ready <jobs/s>` when it is done, and ends with its owner, the process of that id.
"""

from __future__ import annotations

import sys
import time

import dramatiq
from dramatiq.brokers.stub import StubBroker

from llm_mcp.child import follow

from .actors import payload
from .figures import per_s

_PATIENCE_MS = 600_000


def drain(jobs: int, threads: int) -> float:
    """Run jobs that do nothing and return jobs/s, from the first function's start to the last one's."""
    broker = StubBroker()
    started: list[int] = []

    @dramatiq.actor(broker=broker)
    def nothing(_: object) -> None:
        started.append(time.monotonic_ns() // 1000)

    for n in range(jobs):
        nothing.send(payload(n))
    worker = dramatiq.Worker(broker, worker_threads=threads)
    worker.start()
    try:
        broker.join(nothing.queue_name, timeout=_PATIENCE_MS)
    finally:
        worker.stop()
    return per_s(len(started), min(started), max(started))


if __name__ == "__main__":
    follow(int(sys.argv[3]))
    print(f"ready {drain(int(sys.argv[1]), int(sys.argv[2]))}", flush=True)
