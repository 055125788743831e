"""What is measured, once: a drain, submits, pick-ups. All in child processes; the clock is in the job's function."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.waiting import until

from .driving import Broken, Driving
from .environments import python_of
from .peers.protocol import Meter
from .roster import OURS, Peer
from .stores import Stores, wait_idle

THREADS = 8
_START_S = 60.0
_FILL_S = 300.0
_DRAIN_S = 60.0
_PICKUP_S = 600.0
_LOOK_S = 0.02
_FINISHED = 1_000_000
# Copies of one job that was really run, so that they are what this version leaves behind.
_OPEN = "SELECT count(*) FROM llm.jobs WHERE status <> 'done'"
_HISTORY = """
INSERT INTO llm.jobs SELECT c.* FROM (SELECT j FROM llm.jobs j LIMIT 1) one, generate_series(1, %(n)s) i,
  jsonb_populate_record(one.j, jsonb_build_object('id', '01900000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))) c;
INSERT INTO llm.job_attempts SELECT c.* FROM (SELECT a FROM llm.job_attempts a LIMIT 1) one,
  generate_series(1, %(n)s) i,
  jsonb_populate_record(one.a, jsonb_build_object('job_id', '01900000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))) c;
"""


@dataclass(frozen=True, slots=True)
class Drained:
    """One drain: jobs/s between the first and the last start of a job's function, and what was odd about it."""

    rate: float
    ran: int
    repeats: int


class Measures:
    """The measurements over one set of stores."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._shared = Path("/dev/shm") if Path("/dev/shm").is_dir() else stores.scratch
        self._logs = (stores.scratch / f"{n}.log" for n in itertools.count())
        self._history: str | None = None
        self.busy = 0
        """How often the machine was not idle when the clock was started."""

    def prepare(self, peer: Peer) -> None:
        """Make what the peer needs: its environment, and a database to copy. Raises Skipped, Broken."""
        if peer.store == "postgres":
            self._ask(peer, "setup", self._stores.create(self._stores.template(peer)), timeout_s=_START_S)
        else:
            python_of(peer)
            self._stores.fresh(peer)

    def drain(self, peer: Peer, jobs: int, processes: int) -> Drained:
        """Fill an empty queue, then have it drained by workers that are ready."""
        dsn = self._stores.fresh(peer)
        self._fill(peer, dsn, jobs)
        return self._drain(peer, dsn, jobs, processes)

    def drain_over_history(self, jobs: int) -> Drained:
        """Drain our queue in a table that also keeps a million finished jobs, made once."""
        if self._history is None:
            dsn = self._stores.create("history", template=self._stores.template(OURS))
            self._fill(OURS, dsn, 1)
            self._drain(OURS, dsn, 1, 1, to_the_end=True)
            with (
                self._stores.filling(dsn),
                psycopg.connect(dsn) as connection,
                psycopg.ClientCursor(connection) as cursor,
            ):
                cursor.execute(_HISTORY, {"n": _FINISHED})
            self._history = dsn
        self._fill(OURS, self._history, jobs)
        return self._drain(OURS, self._history, jobs, 1, to_the_end=True)

    def drain_under_snapshot(self, jobs: int) -> Drained:
        """Drain our queue while a transaction elsewhere keeps vacuum from removing anything."""
        dsn = self._stores.fresh(OURS)
        self._fill(OURS, dsn, jobs)
        with psycopg.connect(dsn) as old:
            old.execute("SET idle_in_transaction_session_timeout = 0")
            old.commit()
            old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            old.execute("SELECT 1")
            return self._drain(OURS, dsn, jobs, 1)

    def submit(self, peer: Peer, jobs: int, size: int) -> float:
        """Return jobs/s of one submitter on one connection, in batches of `size`."""
        dsn = self._stores.fresh(peer)
        self._begin()
        answer = self._ask(peer, "submit", dsn, timeout_s=_FILL_S, jobs=jobs, size=size, timed=True)
        return jobs / float(answer["seconds"])

    def pickup(self, peer: Peer, jobs: int) -> list[float]:
        """Return ms from just before each submit to its function's start, on a worker that has nothing else."""
        dsn = self._stores.fresh(peer)
        with self._meter(jobs) as (path, _), self._workers(peer, dsn, jobs, 1, path) as workers:
            self._begin()
            for worker in workers:
                worker.go()
            chosen = {"meter": str(path), "jobs": jobs, "pause_s": peer.pause_s}
            return list(self._ask(peer, "pickup", dsn, timeout_s=_PICKUP_S, **chosen)["ms"])

    def _fill(self, peer: Peer, dsn: str, jobs: int) -> None:
        if peer.store != "memory":
            with self._stores.filling(dsn):
                self._ask(peer, "submit", dsn, timeout_s=_FILL_S, jobs=jobs, size=peer.fill, timed=False)

    def _drain(self, peer: Peer, dsn: str, jobs: int, processes: int, *, to_the_end: bool = False) -> Drained:
        with self._meter(jobs) as (path, meter):
            with self._workers(peer, dsn, jobs, processes, path) as workers:
                self._begin()
                for worker in workers:
                    worker.go()
                end = time.monotonic() + _DRAIN_S
                while (ran := meter.ran) < jobs and time.monotonic() < end:
                    if all(worker.ended for worker in workers) and meter.ran < jobs:
                        workers[0].answer(timeout_s=1.0)  # tells why
                    time.sleep(_LOOK_S)
                if to_the_end:  # this database is used again
                    with psycopg.connect(dsn, autocommit=True) as watch:
                        until(lambda: watch.execute(_OPEN).fetchone() == (0,), every_s=0.5)
            started = sorted(meter.started())
            if jobs > 1 and len(started) < 2:
                raise Broken(f"{peer.name}: ran {ran} of {jobs} jobs in {_DRAIN_S:g} s")
            seconds = (started[-1] - started[0]) / 1e9
            return Drained((len(started) - 1) / seconds if seconds else 0.0, len(started), meter.repeats)

    @contextmanager
    def _workers(self, peer: Peer, dsn: str, jobs: int, processes: int, meter: Path) -> Iterator[list[Driving]]:
        with ExitStack() as stack:
            request = {"dsn": dsn, "jobs": jobs, "threads": THREADS, "meter": str(meter)}
            workers = [
                stack.enter_context(Driving(peer, "work", request, log=next(self._logs))) for _ in range(processes)
            ]
            for worker in workers:
                worker.answer(timeout_s=_START_S)
            yield workers

    @contextmanager
    def _meter(self, jobs: int) -> Iterator[tuple[Path, Meter]]:
        with tempfile.NamedTemporaryFile(dir=self._shared, prefix="llm-mcp-meter-") as file:
            file.truncate(Meter.size(jobs))
            yield Path(file.name), Meter(Path(file.name), jobs)

    def _begin(self) -> None:
        self._stores.checkpoint()
        self.busy += not wait_idle()

    def _ask(self, peer: Peer, asked: str, dsn: str, *, timeout_s: float, **more: Any) -> dict[str, Any]:
        with Driving(peer, asked, {"dsn": dsn, **more}, log=next(self._logs)) as driver:
            return driver.answer(timeout_s=timeout_s)
