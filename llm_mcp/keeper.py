"""The keeper of a worker's leases: renews them, and stops a run the moment its lease cannot be trusted.

Three threads, so that none can hold up another: one beats, one watches the clock, one writes the streams.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from . import config, flush
from .errors import LlmMcpError, Unavailable
from .job import Lease
from .liveness import Liveness
from .run import Run
from .runtime import Runtime
from .store import leases as rows
from .store import workers
from .store.listen import JOB_ENDED, JOB_QUEUED
from .store.pool import Database

log = logging.getLogger(__name__)

# A lease is trusted for this share of its length: the rest is the margin for a late beat and a slow cut.
_TRUST = 0.75
_BEATS_PER_LEASE = 3
_PRESENCE_S = 10.0
_SOON_S = 0.5
_COALESCE_S = 0.1
# A claim on its way when a worker is to take no more is waited for so long: what it brings must not come after all has
# been given back, or be what was given back.
_ON_ITS_WAY_S = 1.0


class Keeper:
    """Holds the runs of one worker process.

    Parameters: `worker_id`; `name`, what people call it; `threads`, how many jobs may run at once; `kinds`, a function
    that returns the kinds it takes; `on_free`, called when a place becomes free.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        worker_id: str,
        name: str,
        threads: int,
        kinds: Callable[[], Sequence[str]],
        on_free: Callable[[], None],
    ) -> None:
        self.runtime = runtime
        self.worker_id = worker_id
        self.name = name
        self.threads = threads
        self.draining = False
        self.peers = 0
        """How many other workers might take the same jobs, when we last looked."""
        self.claiming = threading.Lock()
        """Held while a claim is on its way."""
        # Its own connection: the beat must not stand in line behind the work.
        self._db = Database(runtime.dsn, schema=runtime.db.schema, size=1, pooled=runtime.db.pooled)
        self._kinds = kinds
        self._on_free = on_free
        self._lease_s = runtime.settings.lease_s
        self._runs: dict[int, Run] = {}
        self._dirty: set[Run] = set()
        self._fresh: set[Run] = set()
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._beat_now = threading.Event()
        self._watch_now = threading.Event()
        self._flush_now = threading.Event()
        self._idle = threading.Condition(self._mutex)
        self._present_at = 0.0
        self._life = Liveness(runtime, self._db, silence_s=self._lease_s * _TRUST, changed=self._on_life_changed)
        self._watch_until = math.inf
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Report for work and begin to beat.

        Raises Unavailable without a database, SetupError when a pooler keeps no session for us.
        """
        try:
            self.runtime.require_sessions()
            self._report()
        except BaseException:
            self._db.close()
            raise
        self.runtime.listener.hear(JOB_ENDED, self._on_ended)
        if self.runtime.settings.liveness:
            self._life.start()
        for name, loop in (("beat", self._beat_loop), ("watch", self._watch_loop), ("flush", self._flush_loop)):
            thread = threading.Thread(target=loop, name=f"llm-mcp-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop beating and sign off."""
        self.runtime.listener.unhear(JOB_ENDED, self._on_ended)
        self._stop.set()
        for event in (self._beat_now, self._watch_now, self._flush_now):
            event.set()
        for thread in self._threads:
            thread.join(timeout=5.0)
        try:
            workers.stopped(self._db, self.worker_id)
        except LlmMcpError as error:
            log.warning("could not sign off", extra={"action": "sign_off_failed", "error": str(error)})
        self._life.close()
        self._db.close()

    def fault(self) -> str | None:
        """Return the name of a thread of ours that ended before its time, None while all is well."""
        return next((thread.name for thread in self._threads if not thread.is_alive()), None)

    @property
    def alone(self) -> bool:
        """Whether others may take our jobs by now."""
        return self._life.alone

    @property
    def held(self) -> int:
        """How many runs are held: those at work, those that wait for a thread, and results not yet handed in."""
        return len(self._runs)

    def hold(self, leases: Sequence[Lease], *, claimed_at: float) -> list[Run]:
        """Take charge of fresh leases; `claimed_at` is the monotonic instant before the claim was sent, s."""
        fence_at = claimed_at + self._lease_s * _TRUST
        runs = [Run(lease, self.runtime, fence_at=fence_at, on_dirty=self._on_dirty) for lease in leases]
        with self._mutex:
            for run in runs:
                self._runs[run.lease.token] = run
            limit = min([fence_at, *(run.deadline for run in runs if run.deadline is not None)])
            if runs and limit < self._watch_until:
                self._watch_now.set()
        return runs

    def begun(self, runs: Iterable[Run]) -> None:
        """Have those who watch these runs told that they began, unless they are over in a moment: then that is told."""
        with self._mutex:
            self._fresh.update(runs)
            some = bool(self._fresh)
        if some:
            self._flush_now.set()

    def drop(self, runs: Sequence[Run], *, counted: bool = False) -> None:
        """These runs are over; their places are free. `counted`: whoever claims needs no word of it."""
        with self._mutex:
            for run in runs:
                self._runs.pop(run.lease.token, None)
            self._dirty.difference_update(runs)
            self._fresh.difference_update(runs)
            if not self._runs:
                self._idle.notify_all()
        if runs:
            if not counted:
                self._on_free()
            if self.draining:  # we take no more, but a limited kind may have a place for others
                self.runtime.notifier.notify(JOB_QUEUED)

    def take_no_more(self) -> None:
        """Have no further claim begin; one that is on its way is waited for, a moment at most."""
        self.draining = True
        if self.claiming.acquire(timeout=_ON_ITS_WAY_S):
            self.claiming.release()

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no run is held, `timeout_s` seconds at most; say whether that is so."""
        with self._mutex:
            return self._idle.wait_for(lambda: not self._runs, timeout=timeout_s)

    def release_all(self) -> None:
        """Give every lease back and cut its run: others may begin at once, and the tries do not count."""
        runs = self._held()
        self.release(runs)
        for run in runs:
            run.cut("draining")

    def release(self, runs: Sequence[Run]) -> None:
        """Give these leases back. Never raises: what cannot be given back now ends with its lease."""
        if not runs:
            return
        try:
            rows.release(self._db, [run.key for run in runs])
        except LlmMcpError as error:
            log.warning("leases not released", extra={"action": "release_failed", "error": str(error)})
        else:
            self.runtime.notifier.notify(JOB_QUEUED)

    def beat(self) -> None:
        """Renew every lease in one statement; a run whose lease did not come back is cut.

        One that was cut already is not renewed: nothing of it will be written, and others may have the job.
        """
        runs = [run for run in self._held() if run.was_cut is None]
        if not runs:
            return
        sent_at = time.monotonic()
        held = rows.heartbeat(self._db, [run.key for run in runs], lease_s=self._lease_s)
        for run in runs:
            if run.lease.token in held:
                run.fence_at = sent_at + self._lease_s * _TRUST
            else:
                run.cut("lease_lost")

    def _held(self) -> list[Run]:
        with self._mutex:
            return list(self._runs.values())

    def _report(self) -> None:
        life_key = self._life.key
        self.peers = workers.seen(
            self._db,
            self.worker_id,
            name=self.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=config.installed_version(),
            kinds=self._kinds(),
            threads=self.threads,
            running=len(self._held()),
            life_key=life_key,
        )
        if self._life.reported(life_key):
            self._present_at = time.monotonic()

    def _on_life_changed(self) -> None:
        """Our session was opened or lost: report it, and see how long our leases are good."""
        self._present_at = 0.0
        self._beat_now.set()
        self._watch_now.set()

    def _on_ended(self, job_id: str) -> None:
        """A job was ended from outside, or ("") that may have been missed: a beat tells whether it was one of ours."""
        if not job_id or any(str(run.lease.job_id) == job_id for run in self._held()):
            self._beat_now.set()

    def _beat_loop(self) -> None:
        pause_s = min(self._lease_s / _BEATS_PER_LEASE, _PRESENCE_S)
        wait_s = pause_s
        while not self._stop.is_set():
            self._beat_now.wait(wait_s)
            self._beat_now.clear()
            if self._stop.is_set():
                return
            wait_s = pause_s
            try:
                self.beat()
                if time.monotonic() - self._present_at >= _PRESENCE_S / 2:
                    self._report()
            except Unavailable as error:
                wait_s = min(_SOON_S, pause_s)  # the leases run on meanwhile
                log.warning("heartbeat missed", extra={"action": "beat_missed", "error": str(error)})
            except Exception:
                # The beat must go on: a dead thread would lose every lease of this process.
                log.exception("heartbeat failed", extra={"action": "beat_failed"})

    def _watch_loop(self) -> None:
        while not self._stop.is_set():
            with self._mutex:
                self._watch_until = math.inf  # whatever comes while we look wakes us again
            now, alone_at = time.monotonic(), self._life.alone_at
            nearest = math.inf if alone_at is None or alone_at <= now else alone_at
            for run in self._held():
                if run.was_cut is not None:
                    continue
                if alone_at is not None and alone_at <= now:
                    run.cut("held_for_dead")
                elif run.deadline is not None and run.deadline <= now:
                    run.cut("deadline_exceeded")
                elif run.fence_at <= now:
                    run.cut("lease_not_renewed")
                else:
                    limit = run.fence_at if run.deadline is None else min(run.fence_at, run.deadline)
                    nearest = min(nearest, limit)
            with self._mutex:
                self._watch_until = nearest
            self._watch_now.wait(None if nearest == math.inf else max(0.0, nearest - now) + 0.001)
            self._watch_now.clear()

    def _on_dirty(self, run: Run) -> None:
        with self._mutex:
            self._dirty.add(run)
        self._flush_now.set()

    def _flush_loop(self) -> None:
        while not self._stop.is_set():  # looked at after each clear: it is set before what wakes us
            self._flush_now.wait()
            if self._stop.wait(_COALESCE_S):
                return
            self._flush_now.clear()
            with self._mutex:
                runs, self._dirty = self._dirty, set()
                fresh, self._fresh = self._fresh, set()
            self.runtime.announce(*(run.lease.job_id for run in fresh))
            for run in flush.flush(self.runtime, runs):
                self._on_dirty(run)


def new_worker_id(name: str | None, entropy: UUID) -> str:
    """Return an id for one worker process: its name (else the host's), its pid and a few random characters."""
    return f"{name or socket.gethostname()}-{os.getpid()}-{entropy.hex[-6:]}"
