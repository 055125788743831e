"""Periodic duties under one leader: take back ended leases, end late jobs, keep the tables trim.

Every worker process (and `llm-mcp up`) runs one of these; the session lock makes one of them the leader, and when it
dies another takes over within a second or two.
"""

from __future__ import annotations

import logging
import random
import threading
import time

from .errors import LlmMcpError
from .job import Status
from .runtime import Runtime
from .store import events, jobs, workers
from .store.leader import Leadership
from .store.listen import JOB_ENDED, JOB_QUEUED

log = logging.getLogger(__name__)

_TRIM_S = 300.0
_AHEAD_DAYS = 7
_BATCHES = 20


class Scheduler:
    """One thread; `start` and `stop` belong to the process that owns it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="llm-mcp-scheduler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, and let another lead."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        leadership = Leadership(self._runtime.direct_dsn)
        trimmed_at = -_TRIM_S
        while not self._stop.is_set():
            try:
                if leadership.held():
                    self.sweep()
                    if time.monotonic() - trimmed_at >= _TRIM_S:
                        self.trim()
                        trimmed_at = time.monotonic()
            except LlmMcpError as error:
                log.warning("sweep failed", extra={"action": "sweep_failed", "error": str(error)})
            except Exception:
                # Reaping is the backstop of every promise: one bad turn must not end it.
                log.exception("sweep failed", extra={"action": "sweep_failed"})
            self._stop.wait(self._runtime.settings.reap_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret
        leadership.resign()

    def sweep(self) -> None:
        """Take back one batch of ended leases and end one batch of late jobs, and tell who waits for them."""
        notifier = self._runtime.notifier
        reaped = jobs.reap(self._runtime.db)
        for ended in reaped:
            log.warning(
                "lease ended",
                extra={"action": "job_reaped", "job_id": str(ended.job_id), "status": ended.status.value},
            )
        expired = jobs.expire(self._runtime.db)
        for ended in expired:
            log.info("deadline passed", extra={"action": "job_expired", "job_id": str(ended.job_id)})
            notifier.notify(JOB_ENDED, str(ended.job_id))
        for ended in (*reaped, *expired):
            self._runtime.announce(ended.job_id)
        if any(ended.status is Status.QUEUED for ended in reaped):
            notifier.notify(JOB_QUEUED)

    def trim(self) -> None:
        """Make the coming days' event partitions, drop old ones, delete jobs and workers of long ago."""
        settings, db = self._runtime.settings, self._runtime.db
        events.keep_days(db, ahead=_AHEAD_DAYS, keep=settings.event_retention_days)
        for _ in range(_BATCHES):
            if not jobs.prune(db, days=settings.job_retention_days):
                break
        workers.forget(db)
