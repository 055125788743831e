"""Processes that are kept alive: what ends by itself is started again, by one rule for all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .child import Child
from .errors import SetupError

log = logging.getLogger(__name__)

# What lived this long was in good health, s.
_HEALTHY_S = 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
# How long an owner that hears SIGCHLD may do without looking after its processes, s.
_LOOK_S = 0.5


class Process(Protocol):
    """What can be kept alive."""

    @property
    def pid(self) -> int | None:
        """Its process id, None while it does not run."""

    def start(self) -> None:
        """Start it anew. Raises SetupError or OSError."""


@dataclass(eq=False, slots=True)
class _Care:
    """What is remembered of one process between its ends."""

    name: str
    process: Process
    started_at: float
    failures: int = 0
    start_at: float | None = None
    """Instant to start it again, s; None while it is thought to run."""


class Children:
    """Starts again what ended: at once what had lived for half a minute, else after a pause that doubles each time.

    For one thread, the owner of the processes. Parameters: `clock`, which returns seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cares: list[_Care] = []

    def keep(self, name: str, process: Process) -> None:
        """Take charge of a process that was just started; `name` is what the log calls it."""
        self._cares.append(_Care(name, process, self._clock()))

    def revive(self) -> float:
        """Start what ended and whose pause is over; return how long the owner may wait before it asks again, s.

        One that does not start is tried again: it stands in nobody's way.
        """
        for care in self._cares:
            if care.start_at is None and care.process.pid is None:
                code = care.process.ended() if isinstance(care.process, Child) else None
                self._pause(care, "a process ended; starting it again", action="child_ended", exit=code)
            if care.start_at is not None and self._clock() >= care.start_at:
                self._start(care)
        now = self._clock()
        due = [care.start_at - now for care in self._cares if care.start_at is not None]
        return max(0.0, min([_LOOK_S, *due]))

    def _start(self, care: _Care) -> None:
        care.start_at, care.started_at = None, self._clock()
        try:
            care.process.start()
        except (SetupError, OSError) as error:
            # What an old one left behind may still be on its way out: again, and again.
            self._pause(care, "a process did not start", action="child_not_started", error=str(error))

    def _pause(self, care: _Care, what: str, **extra: object) -> None:
        now = self._clock()
        care.failures = 0 if now - care.started_at > _HEALTHY_S else care.failures + 1
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(care.failures - 1, 10)) if care.failures else 0.0
        care.start_at = now + pause_s
        log.error(what, extra={"child": care.name, "pause_s": pause_s, **extra})
