"""What the thread that claims sleeps on."""

from __future__ import annotations

import threading


class Wake:
    """`set`: there may be jobs; `freed`: there is a place for one; `nudge`: look up, nothing more."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._hinted = threading.Event()
        self._freed = threading.Event()

    def set(self) -> None:
        """There may be jobs to claim: all who are idle are told so."""
        self._hinted.set()
        self._event.set()

    def freed(self) -> None:
        """There is a place for a job."""
        self._freed.set()
        self._event.set()

    def nudge(self) -> None:
        """Something changed."""
        self._event.set()

    def wait(self, timeout_s: float) -> None:
        """Sleep until woken, `timeout_s` seconds at most."""
        self._event.wait(timeout_s)

    def take(self) -> tuple[bool, bool]:
        """Forget what woke us; return whether it was a hint of jobs, and whether a place became free."""
        self._event.clear()
        hinted, freed = self._hinted.is_set(), self._freed.is_set()
        if hinted:
            self._hinted.clear()
        if freed:
            self._freed.clear()
        return hinted, freed
