"""How far ahead a worker may claim: only while the jobs it runs are measured short.

A job that takes seconds must not wait in one process's memory while another is idle; jobs of a millisecond would wait
for the database if each were claimed for a free thread. No clock is read here: durations are passed in.
"""

from __future__ import annotations

import threading

SHORT_S = 0.05
"""A job under this is short, s."""
_PROOF = 16
"""Short runs of a kind in a row before it counts as short."""
_AHEAD_S = 0.05
"""How much work may wait in memory, s."""
MOST_AHEAD = 792
"""Jobs that may wait in memory at the most."""
_WEIGHT = 0.05


class Pace:
    """What a worker of `threads` threads knows of its jobs' durations. Safe for threads."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._mutex = threading.Lock()  # guards the rest
        self._in_a_row: dict[str, int] = {}
        self._short: set[str] = set()
        self._mean_s = SHORT_S

    def ran(self, kind: str, seconds: float) -> None:
        """Note how long an attempt took, s."""
        with self._mutex:
            if seconds > SHORT_S:
                self._in_a_row[kind] = 0
                self._short.discard(kind)
                return
            self._in_a_row[kind] = n = self._in_a_row.get(kind, 0) + 1
            if n == _PROOF:
                self._short.add(kind)
            self._mean_s += _WEIGHT * (seconds - self._mean_s)

    def stalled(self) -> None:
        """Jobs waited though they should not have: everything has to be measured again."""
        with self._mutex:
            self._in_a_row.clear()
            self._short.clear()
            self._mean_s = SHORT_S

    @property
    def short(self) -> list[str]:
        """The kinds that are measured short."""
        with self._mutex:
            return list(self._short)

    @property
    def ahead(self) -> int:
        """How many jobs beyond the free threads may be claimed."""
        with self._mutex:
            if not self._short:
                return 0
            return min(MOST_AHEAD, int(self._threads * _AHEAD_S / max(self._mean_s, 1e-6)))
