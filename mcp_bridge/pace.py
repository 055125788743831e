"""How many requests a principal may make: a bucket for each, filled as time goes by."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Counts the requests of each principal.

    There are as many buckets as principals. Parameters: `per_minute`, how many requests each may make, and how many
    at once when it was quiet; `clock`, which returns seconds.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._full = float(per_minute)
        self._per_s = per_minute / 60.0
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, name: str) -> float:
        """Count one request; return 0 when it may be made, else in how many seconds the next one may."""
        now = self._clock()
        left, at = self._left.get(name, (self._full, now))
        left = min(self._full, left + (now - at) * self._per_s)
        if left < 1.0:
            self._left[name] = (left, now)
            return (1.0 - left) / self._per_s
        self._left[name] = (left - 1.0, now)
        return 0.0
