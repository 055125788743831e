"""The line: where a waiting job stands in it, and how fast it moves."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from llm_mcp.job import Job

from .pool import Database

MOST = 1000
"""Places that are counted; who is farther back is told that it is at least there."""
_WALK = 10_000
_LATELY_S = 600.0
_LATELY = 500
_ENOUGH = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job stands among those of its kind that may begin: 1 is next.

    `at_least`: it is there or farther back. `eta_s`: in how long it begins, about, s; None where nothing was measured.
    """

    position: int
    at_least: bool = False
    eta_s: float | None = None

    def same_as(self, other: Place | None) -> bool:
        """Whether there is nothing new in it: a forecast that just comes nearer is not."""
        return other is not None and (self.position, self.at_least, self.eta_s is None) == (
            other.position,
            other.at_least,
            other.eta_s is None,
        )


class Line:
    """The line at one instant.

    Parameters: `waiting`, by kind the sort keys of those that wait, first to last; `cut`, whether more do; `pace_s`, by
    kind how often a place becomes free, s.
    """

    def __init__(self, waiting: dict[str, list[tuple[int, datetime]]], *, cut: bool, pace_s: dict[str, float]) -> None:
        self._waiting = waiting
        self._cut = cut
        self._pace_s = pace_s

    def place(self, job: Job) -> Place | None:
        """Return where a job stands, None when it is not in the line (any more, or not yet)."""
        line, key = self._waiting.get(job.kind, []), _key(job.priority, job.queued_at)
        ahead = bisect_left(line, key)
        if ahead == len(line):
            return Place(min(ahead + 1, MOST), at_least=True) if self._cut and line else None
        if line[ahead] != key:
            return None
        if ahead >= MOST:
            return Place(MOST, at_least=True)
        pace_s = self._pace_s.get(job.kind)
        return Place(ahead + 1, eta_s=None if pace_s is None else round(pace_s * (ahead + 1), 1))


def line(db: Database, kinds: Collection[str]) -> Line:
    """Return the line of these kinds as it is now, and how fast it moves by the jobs that finished lately."""
    asked = list(kinds)
    rows = db.run_tuples("line", {"kinds": asked, "walk": _WALK, "n": 2 * MOST})
    waiting: dict[str, list[tuple[int, datetime]]] = defaultdict(list)
    for kind, priority, queued_at, _ in rows:
        waiting[kind].append(_key(priority, queued_at))
    cut = len(rows) == 2 * MOST or any(row[3] for row in rows[:1])
    speeds = db.run_tuples("speeds", {"kinds": asked, "lately_s": _LATELY_S, "n": _LATELY, "enough": _ENOUGH})
    return Line(dict(waiting), cut=cut, pace_s={kind: mean_s / at_once for kind, mean_s, at_once in speeds})


def _key(priority: int, queued_at: datetime) -> tuple[int, datetime]:
    return -priority, queued_at
