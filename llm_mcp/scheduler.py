"""Periodic duties under one leader: take back ended leases, end late jobs, judge what waits for others, fire schedules,
keep the tables trim.

Every worker process (and `llm-mcp up`) runs one of these; the session lock makes one of them the leader, and when it
dies another takes over within a second or two.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator

from . import needs
from .errors import LlmMcpError
from .job import Status
from .runtime import Runtime
from .schedules import Schedules
from .store import events, sweeps, workers
from .store.leader import Leadership
from .store.listen import JOB_ENDED, JOB_QUEUED
from .store.pool import Database

log = logging.getLogger(__name__)

_TRIM_S = 300.0
# Longer than a worker needs to find a restarted server again, s.
_GRACE_S = 1.8
_BREATH_S = 0.05
# How often those who do not lead look whether the leader does its work, s.
_STAND_IN_S = 5.0
_AHEAD_DAYS = 7
_BATCHES = 10
_PRUNE = 2000
_RESULTS = 500


class Scheduler:
    """One thread; `start` and `stop` belong to the process that owns it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._needs = needs.Backstop(runtime)
        self._missing: dict[str, float] = {}
        self._trim_at = 0.0
        self._more = False
        self._stand_in_at = 0.0

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="llm-mcp-scheduler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, and let another lead."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def fault(self) -> str | None:
        """Return the name of our thread when it ended before its time, None while all is well."""
        return self._thread.name if self._thread is not None and not self._thread.is_alive() else None

    def sweep(self, *, leads: bool = True) -> None:
        """Take back ended leases and those of dead workers, end late jobs, and tell who waits for them.

        `leads`: whether we look often enough to tell who is dead; else leases alone tell.
        """
        notifier = self._runtime.notifier
        for reaped in self._reaped(leads=leads):
            for ended in reaped:
                log.warning(
                    "lease ended",
                    extra={"action": "job_reaped", "job_id": str(ended.job_id), "status": ended.status.value},
                )
                self._runtime.announce(ended.job_id)
            needs.advance(self._runtime, [ended.job_id for ended in reaped if ended.status is Status.ERROR])
            if reaped:  # to be claimed again, or a limited kind has a place
                notifier.notify(JOB_QUEUED)
        for expired in self._batches(sweeps.expire):
            for ended in expired:
                log.info("deadline passed", extra={"action": "job_expired", "job_id": str(ended.job_id)})
                notifier.notify(JOB_ENDED, str(ended.job_id))
                self._runtime.announce(ended.job_id)
            needs.advance(self._runtime, [ended.job_id for ended in expired])

    def trim(self) -> None:
        """Make the coming days' event partitions, drop old ones, and forget workers of long ago.

        Raises Unavailable when a long reader is in the way of a partition.
        """
        workers.forget(self._runtime.db)
        events.keep_days(self._runtime.db, ahead=_AHEAD_DAYS, keep=self._runtime.settings.event_retention_days)

    def prune(self) -> bool:
        """Delete one batch of jobs that finished long ago and say whether there may be more."""
        return sweeps.prune(self._runtime.db, days=self._runtime.settings.job_retention_days, n=_PRUNE) == _PRUNE

    def expire_results(self) -> bool:
        """Forget one batch of results whose time is over and say whether there may be more. They are hidden by then."""
        return sweeps.expire_results(self._runtime.db, n=_RESULTS) == _RESULTS

    def _run(self) -> None:
        leadership = Leadership(self._runtime.direct_dsn, self._runtime.db.schema)
        while not self._stop.is_set():
            try:
                if leadership.held():
                    self._turn()
                else:
                    self._missing.clear()
                    if leadership.away:
                        self._stand_in_at = 0.0  # whoever lives has a moment to come back
                    else:
                        self._stand_in()
            except LlmMcpError as error:
                log.warning("sweep failed", extra={"action": "sweep_failed", "error": str(error)})
            except Exception:
                # Reaping is the backstop of every promise: one bad turn must not end it.
                log.exception("sweep failed", extra={"action": "sweep_failed"})
            self._stop.wait(self._pause_s())
        leadership.resign()

    def _turn(self) -> None:
        self._urgent(leads=True)
        for _ in range(_BATCHES):
            if not self.expire_results():
                break
        now = time.monotonic()
        due = now >= self._trim_at
        if due or self._more:
            self._more = self.prune()
        if due:
            self._trim_at = now + _TRIM_S
            self.trim()

    def _urgent(self, *, leads: bool) -> None:
        self.sweep(leads=leads)
        self._needs.look()
        Schedules(self._runtime).fire()

    def _stand_in(self) -> None:
        """Now and then do what cannot wait, though another leads: one that stands still keeps the lead."""
        now = time.monotonic()
        if now < self._stand_in_at:
            return
        if self._stand_in_at:
            self._urgent(leads=False)
        self._stand_in_at = now + _STAND_IN_S * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, no secret

    def _pause_s(self) -> float:
        """Return when to look again, s: soon, when a worker is missing that may be gone by then."""
        usual_s = self._runtime.settings.reap_s * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, no secret
        waits_s = [since + _GRACE_S - time.monotonic() for since in self._missing.values()]
        return max(_BREATH_S, min([usual_s, *waits_s]))

    def _reaped(self, *, leads: bool) -> Iterator[list[sweeps.Ended]]:
        """Take back leases, and yield the batches of what was."""
        try:
            gone, missing = self._absent() if leads else ([], [])
            yield from self._batches(lambda db: sweeps.reap(db, gone, missing))
        except LlmMcpError:
            self._missing.clear()  # nobody could be seen meanwhile
            raise

    def _absent(self) -> tuple[list[str], list[str]]:
        """Return the workers that have been missing for longer than it takes to find a restarted server again, and
        those that have not."""
        now = time.monotonic()
        self._missing = {worker: self._missing.get(worker, now) for worker in workers.absent(self._runtime.db)}
        gone = [worker for worker, since in self._missing.items() if now - since >= _GRACE_S]
        return gone, [worker for worker in self._missing if worker not in gone]

    def _batches(self, sweep: Callable[[Database], list[sweeps.Ended]]) -> Iterator[list[sweeps.Ended]]:
        """Yield the batches of a sweep until one comes back short; bounded, for the other duties wait."""
        for _ in range(_BATCHES):
            batch = sweep(self._runtime.db)
            yield batch
            if len(batch) < sweeps.SWEEP:
                return
