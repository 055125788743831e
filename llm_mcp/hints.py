"""Which hints of new jobs a worker follows, and when: all who are idle hear of a job that only one of them can have.

One that came too late so often in a row holds back from then on, the longer the more others there are, and asks whether
there is a job before it takes a turn for one. However many they are, the first of them looks about as long after the
hint.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence

from .keeper import Keeper
from .store import admission

_TOO_LATE = 2
# It holds back for a part of so long, s, for each that may take the same jobs.
_HOLD_BACK_S = 0.025
# What waits for less than this is still for those who were in time lately, s.
_THEIRS_S = 0.025


class Hints:
    """What one worker process makes of hints. Used by the thread that claims alone.

    Parameters: `keeper`, which knows how many others there are; `kinds`, a function that returns the kinds it takes.
    """

    def __init__(self, keeper: Keeper, *, kinds: Callable[[], Sequence[str]]) -> None:
        self._keeper = keeper
        self._kinds = kinds
        self._heard = False
        self._too_late = 0
        """Hints in a row that brought no job, nor word of one."""

    def hear(self) -> float:
        """Note that there may be jobs, and return when to look, monotonic."""
        self._heard = True
        return self._look_at() if self._late else 0.0

    def take(self) -> bool:
        """Return whether there is a hint to follow, and forget it."""
        heard, self._heard = self._heard, False
        return heard

    def put_off(self) -> float | None:
        """Return when to look again at what we were told of, monotonic, and inf when others have it; None: go now.

        A moment is left to others after a job is due, as it is after one came. Raises Unavailable.
        """
        if not self._late:
            return None
        waited_s = admission.waiting(self._keeper.runtime.db, self._kinds())
        if waited_s is None:
            return math.inf
        if waited_s >= _THEIRS_S:
            return None
        self._heard = True
        return max(self._look_at(), time.monotonic() + _THEIRS_S - waited_s)

    def followed(self, *, in_time: bool) -> None:
        """Learn from a hint that was followed."""
        self._too_late = 0 if in_time else self._too_late + 1

    @property
    def _late(self) -> bool:
        return self._too_late >= _TOO_LATE

    def _look_at(self) -> float:
        longest_s = _HOLD_BACK_S * (1 + self._keeper.peers)
        return time.monotonic() + longest_s * random.random()  # noqa: S311 - jitter, no secret
