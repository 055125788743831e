"""The streams a process has open: how many there may be, and how they are told to end."""

from __future__ import annotations

import threading

from llm_mcp.errors import Unavailable


class Streams:
    """Counts streams, so that they never use up the threads that answer everything else.

    `draining` is set when the process is about to stop: every stream says goodbye and ends.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0
        self._mutex = threading.Lock()
        self.draining = threading.Event()

    def enter(self) -> None:
        """Take a place. Raises Unavailable when all are taken or the process is about to stop."""
        with self._mutex:
            if self.draining.is_set() or self._open >= self._most:
                raise Unavailable(f"no place for another stream (of {self._most})", retry_after_s=2.0)
            self._open += 1

    def leave(self) -> None:
        """Give the place back."""
        with self._mutex:
            self._open -= 1

    @property
    def open(self) -> int:
        """How many streams are open now."""
        with self._mutex:
            return self._open
