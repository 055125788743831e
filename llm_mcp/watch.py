"""Watching one job from outside: what is new of it, told by the process's hub when there may be something.

Between looks nobody holds a connection. A database that is away for a while is waited for, and the watch goes on where
it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from typing import Any
from uuid import UUID

from . import hub
from .errors import Unavailable, WaitTimeout
from .events import QUEUE, RESET, Cursor, Event
from .job import Job, Status
from .runtime import Runtime
from .seat import Seat
from .store.events import Glance
from .store.line import Place

PATIENCE_S = 30.0
"""How long a database may be away before a watcher gives up, s."""
_LOOK_AGAIN_S = 0.5


class Watch:
    """One reader's place in the life of one job. Owned by the thread that reads.

    Parameters: `get`, which returns the job whole; `after`, the last event that was seen; `line`, whether to tell the
    job's place in the line while it waits.
    """

    def __init__(
        self, runtime: Runtime, job_id: UUID, *, get: Callable[[UUID], Job], after: Cursor, line: bool = False
    ) -> None:
        self._job_id = job_id
        self._get = get
        self._line = line
        self._told: Status | None = None
        self._seat = Seat(hub.of(runtime), job_id, after)

    def nudge(self) -> None:
        """Have `items` yield None now, or next. May be called from any thread."""
        self._seat.nudge()

    def items(self, *, quiet_s: float, patience_s: float = PATIENCE_S) -> Generator[Job | Event | None, None, None]:
        """Yield what `Jobs.follow` says it does."""
        last_at, patience = time.monotonic(), _Patience(self._seat, patience_s)
        look_in_s: float | None = 0.0
        with self._seat as seat:
            while True:
                news: list[Job | Event] = []
                left_s = None if look_in_s == 0 else max(0.0, last_at + quiet_s - time.monotonic())
                try:
                    found = seat.take(left_s, look_in_s=look_in_s)
                    look_in_s = None
                    if isinstance(found, Glance):
                        news, more = self._news(found)
                        look_in_s = 0.0 if more else None
                    elif found is not None:
                        news = [self._place(found)]
                except Unavailable as error:
                    look_in_s = patience.left(error)
                yield from news
                if self._told is not None and self._told.final:
                    return
                now = time.monotonic()
                if news:
                    last_at = now
                elif seat.nudged or now - last_at >= quiet_s:
                    seat.nudged, last_at = False, now
                    yield None

    def _news(self, glance: Glance) -> tuple[list[Job | Event], bool]:
        """Return what is new in a glance, and whether there is more of it already."""
        events = glance.events
        news: list[Job | Event] = [*self._reset(glance), *events]
        told, moved_on, waiting = self._told, False, self._seat.in_line
        if glance.status is not told and not (glance.status.final and glance.more):
            job = self._get(self._job_id)
            moved_on = (job.status, job.attempts) != (glance.status, glance.attempts)
            if not moved_on:  # else it is told after the next look, in its place among its events
                told = job.status
                waiting = job if self._line and told is Status.QUEUED else None
                news.insert(len(news) if told.final else 0, job)
        # Only now: a look that fails half-way has told nothing.
        self._told, seat = told, self._seat
        seat.told, seat.in_line = told or "", waiting
        if events:
            seat.after = events[-1].cursor
        elif seat.after.attempt != glance.attempts:
            seat.after = Cursor(glance.attempts, 0)
        return news, glance.more or moved_on

    def _reset(self, glance: Glance) -> list[Event]:
        """Return the event that tells a reader of an earlier attempt to forget it."""
        if 0 < self._seat.after.attempt < glance.attempts:
            return [Event(glance.attempts, 0, RESET, {"attempt": glance.attempts})]
        return []

    def _place(self, place: Place) -> Event:
        """Return the event that tells a waiting job's place."""
        told: dict[str, Any] = {"position": place.position}
        if place.at_least:
            told["at_least"] = True
        if place.eta_s is not None:
            told["eta_s"] = place.eta_s
        return Event(*self._seat.after, QUEUE, told)


class Wait:
    """One waiter for the end of one job. Owned by the thread that waits."""

    def __init__(self, runtime: Runtime, job_id: UUID) -> None:
        self._seat = Seat(hub.of(runtime), job_id, Cursor(), most=0)

    def nudge(self) -> None:
        """Have `final` return now. May be called from any thread."""
        self._seat.nudge()

    def final(self, *, timeout_s: float | None, patience_s: float = PATIENCE_S) -> bool:
        """Return whether the job is finished: as soon as it is, else after `timeout_s` seconds (None: never).

        Raises NotFound, and Unavailable when the database stays away for `patience_s` seconds.
        """
        end_at = math.inf if timeout_s is None else time.monotonic() + timeout_s
        patience = _Patience(self._seat, patience_s)
        look_in_s: float | None = 0.0
        with self._seat as seat:
            while True:
                last = time.monotonic() >= end_at
                if last:
                    seat.told, look_in_s = "", 0.0  # have an answer in any case
                wait = look_in_s != 0 and end_at != math.inf
                try:
                    found = seat.take(max(0.0, end_at - time.monotonic()) if wait else None, look_in_s=look_in_s)
                    look_in_s = None
                    if isinstance(found, Glance):
                        if found.status.final:
                            return True
                        seat.told, seat.after = found.status, Cursor(found.attempts, 0)
                except Unavailable as error:
                    look_in_s = patience.left(error)
                if last or seat.nudged:
                    return False


class _Patience:
    """How long a database that is away is waited for.

    Parameters: `seat`, which knows when it was there last; `most_s`, s.
    """

    def __init__(self, seat: Seat, most_s: float) -> None:
        self._seat = seat
        self._most_s = most_s
        self._lost_at = math.inf

    def left(self, error: Unavailable) -> float:
        """Return in how many seconds to look again. Raises the error when patience is at its end."""
        now = time.monotonic()
        if self._lost_at == math.inf or self._seat.read_at > self._lost_at:
            self._lost_at = now
        if now - self._lost_at >= self._most_s:
            raise error
        return _LOOK_AGAIN_S


def wait_final(runtime: Runtime, job_id: UUID, *, timeout_s: float | None, patience_s: float) -> None:
    """Return once the job is finished.

    Raises WaitTimeout after `timeout_s` seconds (None: never), NotFound, and Unavailable when the database stays away
    for `patience_s` seconds.
    """
    if not Wait(runtime, job_id).final(timeout_s=timeout_s, patience_s=patience_s):
        raise WaitTimeout(f"job {job_id} is not finished after {timeout_s:g} s")
