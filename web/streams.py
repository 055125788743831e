"""The streams a process has open: how many there may be, and how they are told to end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import cast

from flask import current_app

from .errors import Full

_RETRY_AFTER_S = 2.0


class Streams:
    """Counts streams, so that they never use up the threads that answer everything else.

    Parameter: `most`, how many there may be at once. `draining` is set when the process is about to stop: every stream
    says goodbye and ends. Request threads enter and leave; a signal handler may set `draining`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: set[object] = set()
        self._mutex = threading.Lock()
        self.draining = threading.Event()

    def enter(self) -> Callable[[], None]:
        """Take a place; return the function that gives it back (again: nothing happens).

        Raises Full when all are taken or the process is about to stop.
        """
        place = object()
        with self._mutex:
            if self.draining.is_set() or len(self._taken) >= self._most:
                raise Full(f"no place for another stream (of {self._most})", retry_after_s=_RETRY_AFTER_S)
            self._taken.add(place)
        return partial(self._leave, place)

    def _leave(self, place: object) -> None:
        with self._mutex:
            self._taken.discard(place)

    @property
    def open(self) -> int:
        """How many streams are open now."""
        with self._mutex:
            return len(self._taken)


def streams() -> Streams:
    """Return the streams of this application."""
    return cast("Streams", current_app.extensions["streams"])
