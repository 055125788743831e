"""Watching one job from outside: what is new of it, looked for when there may be something.

A notice wakes the watcher; now and then it looks by itself, for notices may be missed. Between looks it holds no
connection. A database that is away for a while is waited for, and the watch goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from uuid import UUID

from .errors import Unavailable, WaitTimeout
from .events import RESET, Cursor, Event
from .job import Job, Status
from .runtime import Runtime
from .store import events as event_rows
from .store import jobs as rows
from .store.listen import JOB_UPDATE, Listener

PATIENCE_S = 30.0
"""How long a database may be away before a watcher gives up, s."""
_LOOK_ANYWAY_S = 2.0
_LOOK_ANYWAY_DEAF_S = 0.5


class Watch:
    """One reader's place in the life of one job. Owned by the thread that reads.

    Parameters: `get`, which returns the job whole; `after`, the last event that was seen.
    """

    def __init__(self, runtime: Runtime, job_id: UUID, *, get: Callable[[UUID], Job], after: Cursor) -> None:
        self._runtime = runtime
        self._job_id = job_id
        self._get = get
        self._cursor = after
        self._told: Status | None = None

    def items(self, *, quiet_s: float, patience_s: float) -> Generator[Job | Event | None, None, None]:
        """Yield what `Jobs.follow` says it does."""
        look_at, last_at, lost_at = 0.0, time.monotonic(), None
        with self._runtime.listener.subscribe(JOB_UPDATE, str(self._job_id)) as wake:
            while True:
                news: list[Job | Event] = []
                now = time.monotonic()
                if wake.is_set() or now >= look_at:
                    wake.clear()
                    try:
                        news, more = self._look()
                    except Unavailable:
                        lost_at = now if lost_at is None else lost_at
                        if now - lost_at >= patience_s:
                            raise
                        look_at = now + _LOOK_ANYWAY_DEAF_S
                    else:
                        lost_at, look_at = None, now if more else now + _look_anyway_s(self._runtime.listener)
                yield from news
                if self._told is not None and self._told.final:
                    return
                now = time.monotonic()
                if news:
                    last_at = now
                elif now - last_at >= quiet_s:
                    last_at = now
                    yield None
                wake.wait(max(0.0, min(look_at, last_at + quiet_s) - time.monotonic()))

    def _look(self) -> tuple[list[Job | Event], bool]:
        """Return what is new, and whether there is more of it already."""
        glance = event_rows.follow(self._runtime.db, self._job_id, self._cursor)
        news: list[Job | Event] = [*self._reset(glance), *glance.events]
        told, moved_on = self._told, False
        if glance.status is not told and not (glance.status.final and glance.more):
            job = self._get(self._job_id)
            moved_on = (job.status, job.attempts) != (glance.status, glance.attempts)
            if not moved_on:  # else it is told after the next look, in its place among its events
                told = job.status
                news.insert(len(news) if told.final else 0, job)
        # Only now: a look that fails half-way has told nothing.
        self._told = told
        if glance.events:
            self._cursor = glance.events[-1].cursor
        elif self._cursor.attempt != glance.attempts:
            self._cursor = Cursor(glance.attempts, 0)
        return news, glance.more or moved_on

    def _reset(self, glance: event_rows.Glance) -> list[Event]:
        """Return the event that tells a reader of an earlier attempt to forget it."""
        if 0 < self._cursor.attempt < glance.attempts:
            return [Event(glance.attempts, 0, RESET, {"attempt": glance.attempts})]
        return []


def wait_final(runtime: Runtime, job_id: UUID, *, timeout_s: float | None, patience_s: float) -> None:
    """Return once the job is finished.

    Raises WaitTimeout after `timeout_s` seconds (None: never), NotFound, and Unavailable when the database stays away
    for `patience_s` seconds.
    """
    began_at, lost_at = time.monotonic(), None
    with runtime.listener.subscribe(JOB_UPDATE, str(job_id)) as wake:
        while True:
            wake.clear()
            pause_s = _look_anyway_s(runtime.listener)
            now = time.monotonic()
            try:
                if rows.status(runtime.db, job_id).final:
                    return
                lost_at = None
            except Unavailable:
                lost_at = now if lost_at is None else lost_at
                if now - lost_at >= patience_s:
                    raise
            if timeout_s is not None:
                left_s = began_at + timeout_s - time.monotonic()
                if left_s <= 0:
                    raise WaitTimeout(f"job {job_id} is not finished after {timeout_s:g} s")
                pause_s = min(pause_s, left_s)
            wake.wait(pause_s)


def _look_anyway_s(listener: Listener) -> float:
    return _LOOK_ANYWAY_S if listener.hears(JOB_UPDATE) else _LOOK_ANYWAY_DEAF_S
