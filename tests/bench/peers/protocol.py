"""What the bench asks of a queue, the same of all: a driver script answers it as a child process.

    python drive_NAME.py setup|submit|pickup|work

The request is one JSON line on stdin, each answer one JSON line on stdout. Runs in the peer's own environment, so it
needs nothing but Python itself. A job's payload is a JSON object of 200 bytes with its number `n`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

PAYLOAD_BYTES = 200
_WARM_UP = 20
_LOOK_S = 0.0005
_LOST_S = 30.0

Payload = dict[str, Any]
Send = Callable[[list[Payload]], Awaitable[object] | None]
"""Submits jobs: one by one when given one, as a batch when given more. Async peers return an awaitable."""


class Meter:
    """When each job's function began, in memory that all processes of a measurement share.

    Per job: nanoseconds of the system's monotonic clock (0: not yet) and how often it ran.
    """

    def __init__(self, path: Path, jobs: int) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), Meter.size(jobs))
        view = memoryview(self._memory)
        self._started = view[: 8 * jobs].cast("q")
        self._runs = view[8 * jobs :]

    @staticmethod
    def size(jobs: int) -> int:
        """Return the bytes of the file that counts so many jobs."""
        return 9 * jobs

    def hit(self, payload: Payload) -> None:
        """The job with this payload runs: all that a job of the bench does."""
        now = time.monotonic_ns()
        n = payload["n"]
        runs = self._runs[n]
        if not runs:
            self._started[n] = now
        self._runs[n] = min(runs + 1, 255)

    def started(self) -> list[int]:
        """Return when the jobs that ran began for the first time, ns."""
        return [at for at in self._started.tolist() if at]

    def started_at(self, n: int) -> int:
        """Return when job `n` began, ns; 0: not yet."""
        return self._started[n]

    @property
    def ran(self) -> int:
        """How many jobs ran."""
        return len(self._runs) - bytes(self._runs).count(0)

    @property
    def repeats(self) -> int:
        """How many runs were one too many."""
        return sum(self._runs) - self.ran


class Driver:
    """One queue. Subclasses do what the bench asks; `dsn` is the database, `options` what the bench chose."""

    run_async: Callable[[Any], Any] = staticmethod(asyncio.run)
    """The event loop that submits: the one the peer's own commands use."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.dsn: str = request["dsn"]
        self.options: dict[str, Any] = request.get("options", {})
        self.jobs: int = request.get("jobs", 0)
        self.threads: int = request.get("threads", 0)

    def setup(self) -> None:
        """Make the tables."""

    def sender(self) -> Any:
        """Return a context manager, sync or async, of a `Send` that is connected."""
        raise NotImplementedError

    def work(self, hit: Callable[[Payload], None], go: Callable[[], None]) -> None:
        """Run jobs until killed, each calling `hit(payload)`. `go()`, to be called when all is imported, waits."""
        raise NotImplementedError


def payload(n: int) -> Payload:
    """Return the payload of job `n`."""
    bare = len(json.dumps({"n": n, "pad": ""}, separators=(",", ":")))
    return {"n": n, "pad": "x" * (PAYLOAD_BYTES - bare)}


def main(driver_class: type[Driver]) -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.readline())
    driver = driver_class(request)
    command = sys.argv[1]
    if command == "setup":
        driver.setup()
        _say({})
    elif command == "submit":
        _say({"seconds": driver.run_async(_submit(driver, request["jobs"], request["size"], warm=request["timed"]))})
    elif command == "pickup":
        meter = Meter(Path(request["meter"]), request["jobs"])
        _say({"ms": driver.run_async(_pickup(driver, meter, request["jobs"], request["pause_s"]))})
    else:
        driver.work(Meter(Path(request["meter"]), request["jobs"]).hit, _go)


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def _go() -> None:
    _say({"ready": True})
    sys.stdin.readline()


@contextlib.asynccontextmanager
async def _connected(driver: Driver) -> Any:
    manager = driver.sender()
    if hasattr(manager, "__aenter__"):
        async with manager as send:
            yield send
    else:
        with manager as send:
            yield send


def _batches(first: int, jobs: int, size: int) -> Iterator[list[Payload]]:
    for n in range(first, first + jobs, size):
        yield [payload(i) for i in range(n, min(n + size, first + jobs))]


async def _submit(driver: Driver, jobs: int, size: int, *, warm: bool) -> float:
    """Return the seconds that `jobs` submits in batches of `size` took, connected and, if asked for, warmed up."""
    async with _connected(driver) as send:
        for batch in _batches(jobs, _WARM_UP * min(size, 5) if warm else 0, size):
            await _sent(send(batch))
        batches = list(_batches(0, jobs, size))
        began = time.perf_counter()
        for batch in batches:
            answer = send(batch)
            if answer is not None:
                await answer
        return time.perf_counter() - began


async def _pickup(driver: Driver, meter: Meter, jobs: int, pause_s: float) -> list[float]:
    """Submit one job at a time to an idle worker; return ms from just before each submit to its function's start."""
    found = []
    chance = random.Random(1)  # the same pauses for all
    async with _connected(driver) as send:
        for n in range(jobs):
            await asyncio.sleep(chance.uniform(0.02, pause_s))
            one = [payload(n)]
            began = time.monotonic_ns()
            await _sent(send(one))
            while not (at := meter.started_at(n)):
                if time.monotonic_ns() - began > _LOST_S * 1e9:
                    raise RuntimeError(f"job {n} was not picked up within {_LOST_S:g} s")
                await asyncio.sleep(_LOOK_S)
            found.append((at - began) / 1e6)
    return found[min(_WARM_UP, jobs // 10) :]


async def _sent(answer: Awaitable[object] | None) -> None:
    if answer is not None:
        await answer
