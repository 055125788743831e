"""A watcher's seat at the hub: what it waits for, and what it was handed."""

from __future__ import annotations

import math
import threading
from typing import Protocol
from uuid import UUID

from .events import Cursor
from .job import Job
from .store import events as event_rows
from .store.events import Glance
from .store.line import Place


class Reads(Protocol):
    """Who reads for seats: the hub."""

    def enter(self, seat: Seat) -> None:
        """Hear notices for a seat."""

    def leave(self, seat: Seat) -> None:
        """Forget a seat."""

    def expect(self, seat: Seat, look_in_s: float | None) -> None:
        """The seat's owner begins to wait."""

    def handed(self, seat: Seat) -> Glance | Place | None:
        """The owner ended its wait: return, or raise, what there is for it."""

    def wake(self, seat: Seat) -> None:
        """There is a notice for a seat."""


class Seat:
    """A watcher's seat, for as long as its `with` block lasts. Owned by the watcher's thread.

    Parameters: `after`, the last event its owner has seen; `most`, how many events it takes at once (0: the status is
    all it wants to know). The owner moves `after` on, and `told`, the status it knows. While `in_line` is a job
    that waits, it is told that one's place in the line too, at most once a second and when something is new in it.
    """

    def __init__(self, hub: Reads, job_id: UUID, after: Cursor, *, most: int = event_rows.PAGE) -> None:
        self.job_id = job_id
        self.after = after
        self.told = ""
        self.most = most
        self.in_line: Job | None = None
        self._hub = hub
        self.bell = threading.Event()
        self.nudged = False
        # What follows is the hub's, under its mutex.
        self.waits = False
        self.woken = False
        self.read_at = 0.0
        """Monotonic instant of the last look that came off, s."""
        self.due = 0.0
        """Monotonic instant at which to look anyway, s."""
        self.timer = math.inf
        """Monotonic instant of its nearest timer, s."""
        self.found: Glance | Exception | None = None
        self.place: Place | None = None
        self.place_told: Place | None = None
        self.place_from = 0.0
        """Monotonic instant from which on its place may be told, s."""

    def __enter__(self) -> Seat:
        self._hub.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._hub.leave(self)

    def take(self, timeout_s: float | None, *, look_in_s: float | None = None) -> Glance | Place | None:
        """Wait for what is new and return it; None when nothing was for `timeout_s` seconds (None: ever), or earlier.

        `look_in_s`: look so soon (s), without a notice; None: when the hub thinks fit. Raises NotFound, Unavailable.
        """
        self._hub.expect(self, look_in_s)
        self.bell.wait(timeout_s)
        self.bell.clear()
        return self._hub.handed(self)

    def set(self) -> None:
        """There is a notice for this seat. May be called from any thread, as may `nudge`."""
        self._hub.wake(self)

    def nudge(self) -> None:
        """End its owner's wait, or the next one; `nudged` stays set until the owner takes it back."""
        self.nudged = True
        self.bell.set()
