"""The streams a process has open: how many there may be, how they end when the process does, or their client leaves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import cast

from flask import current_app

from .departures import Departures
from .errors import Full

_RETRY_AFTER_S = 2.0


class Place:
    """One taken place. Call it to give it back (again: nothing happens)."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._number: int | None = None
        self.tell: Callable[[], None] | None = None
        """Called when there is a reason to end: `gone`, or the process drains."""
        self.gone = False
        """Whether the client left."""

    def watch(self, client: socket.socket | None, tell: Callable[[], None]) -> None:
        """Have `tell` called, from another thread, as soon as the client has left or the process drains."""
        self.tell = tell
        if client is not None:
            self._number = self._streams.departures.add(client, self._left)
        if self.draining:
            tell()

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop."""
        return self._streams.draining.is_set()

    def __call__(self) -> None:
        if self._number is not None:
            self._streams.departures.remove(self._number)
            self._number = None
        self._streams.leave(self)

    def _left(self) -> None:
        self.gone = True
        if self.tell is not None:
            self.tell()


class Streams:
    """Counts streams, so that they never use up the threads that answer everything else.

    Parameter: `most`, how many there may be at once. `draining` is set when the process is about to stop: every stream
    says goodbye and ends. Request threads enter and leave; a signal handler may set `draining`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: set[Place] = set()
        self._mutex = threading.Lock()
        self.draining = _Draining(self._tell_all)
        self.departures = Departures()

    def enter(self) -> Place:
        """Take a place; the caller has to give it back.

        Raises Full when all are taken or the process is about to stop.
        """
        place = Place(self)
        with self._mutex:
            if self.draining.is_set() or len(self._taken) >= self._most:
                raise Full(f"no place for another stream (of {self._most})", retry_after_s=_RETRY_AFTER_S)
            self._taken.add(place)
        return place

    def leave(self, place: Place) -> None:
        """Take a place back."""
        with self._mutex:
            self._taken.discard(place)

    @property
    def open(self) -> int:
        """How many streams are open now."""
        with self._mutex:
            return len(self._taken)

    def _tell_all(self) -> None:
        with self._mutex:
            places = list(self._taken)
        for place in places:
            if place.tell is not None:
                place.tell()


class _Draining(threading.Event):
    """An event that wakes whoever waits for something else. The thread that sets it must never be one of them."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def set(self) -> None:
        super().set()
        self._tell()


def streams() -> Streams:
    """Return the streams of this application."""
    return cast("Streams", current_app.extensions["streams"])
