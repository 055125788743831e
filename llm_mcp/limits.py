"""How much of a kind may run, everywhere together; and queues nothing is claimed from for a while.

Limits are rows: they hold for all workers at once, and from the next claim on. A worker's start writes those its actors
declare, but only where there is no row: what an operator wrote stands.

@actor("acme.scrape", max_running=2, rate="10/m")
def scrape(payload): …
"""

from __future__ import annotations

import logging
import re
from typing import Any, Literal

from .errors import InvalidInput, NotFound
from .kinds import KINDS, check_name
from .runtime import Runtime
from .store import limits as rows
from .store.limits import Limit, NewLimit, Queue
from .store.listen import JOB_QUEUED

__all__ = ["ANY", "Limit", "Limits", "Queue", "Queues", "declared_limit"]

log = logging.getLogger(__name__)

ANY: Literal["any"] = "any"
"""The word that lifts a limit."""
_RATE = re.compile(r"([0-9]{1,9})/([smhd])")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MOST = 1_000_000
_LONGEST_BURST_S = 366 * 86400.0
# What begins in so long may begin at once, unless somebody says otherwise: claims are batches, s.
_BURST_S = 0.1
_MAX_QUEUE_CHARS = 200


class Limits:
    """The verbs on limits. Cheap to make; safe for threads."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def set(
        self,
        kind: str,
        *,
        max_running: int | Literal["any"] | None = None,
        rate: str | None = None,
        burst: int | None = None,
    ) -> Limit:
        """Limit a kind and return its limit. What is None stays as it is, `"any"` lifts it.

        Parameters: `max_running`, jobs at once, 0 to have none begin; `rate`, as in `10/s`, `10/m`, `10/h` or `10/d`:
        they begin evenly spread; `burst`, how many of these may begin at once after a quiet time (with a new rate, when
        not given: what it lets begin in a tenth of a second, at least 1). In any time t no more than `burst` + rate · t
        begin. Jobs that run already run on. Raises InvalidInput naming the field, Unavailable.
        """
        check_name(kind)
        if max_running is None and rate is None and burst is None:
            raise InvalidInput("give a number of jobs at once, a rate, or both", field="max_running")
        new = _checked(kind, max_running, rate, burst)
        if burst is not None and rate is None:
            known = self._get(kind)
            if known is None or known.rate is None or known.per_s is None:
                raise InvalidInput("needs a rate", field="burst")
            _check_burst(burst, known.rate, known.per_s)
        rows.put(self.runtime.db, new, change_running=max_running is not None, change_rate=rate is not None)
        self.runtime.notifier.notify(JOB_QUEUED)
        return self.get(kind)

    def get(self, kind: str) -> Limit:
        """Return a kind's limit. Raises NotFound."""
        found = self._get(kind)
        if found is None:
            raise NotFound(f"no limit for {kind!r}")
        return found

    def remove(self, kind: str) -> None:
        """Have a kind run as much as there are threads. One that code declares is back with the next worker's start.

        Raises NotFound.
        """
        if not rows.remove(self.runtime.db, kind):
            raise NotFound(f"no limit for {kind!r}")
        self.runtime.notifier.notify(JOB_QUEUED)

    def every(self) -> list[Limit]:
        """Return all limits, by kind."""
        return rows.every(self.runtime.db)

    def declare(self) -> None:
        """Write what the kinds of this process declare, where no row is; for a worker's start."""
        new = [one for kind in KINDS if (one := declared_limit(kind.name, kind.max_running, kind.rate)) is not None]
        for kind in rows.declare(self.runtime.db, new) if new else ():
            log.info("limit declared", extra={"action": "limit_declared", "kind": kind})

    def _get(self, kind: str) -> Limit | None:
        return next((one for one in self.every() if one.kind == kind), None)


class Queues:
    """The verbs on queues. Cheap to make; safe for threads."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def every(self) -> list[Queue]:
        """Return all queues that have jobs or are paused, by name."""
        return rows.queues(self.runtime.db)

    def pause(self, name: str) -> bool:
        """Have nothing of a queue claimed, from the next claim on; running jobs run on. False when it was paused.

        Raises InvalidInput.
        """
        if not (name.strip() and len(name) <= _MAX_QUEUE_CHARS and name.isprintable()):
            raise InvalidInput(f"must be 1 to {_MAX_QUEUE_CHARS} printable characters", field="name")
        return rows.pause(self.runtime.db, name)

    def resume(self, name: str) -> bool:
        """Have a queue claimed from again, and wake the workers; False when it was not paused."""
        resumed = rows.resume(self.runtime.db, name)
        if resumed:
            self.runtime.notifier.notify(JOB_QUEUED)
        return resumed


def declared_limit(kind: str, max_running: int | None, rate: str | None) -> NewLimit | None:
    """Return the limit that a kind declares, None when it declares none. Raises InvalidInput naming the field."""
    return None if max_running is None and rate is None else _checked(kind, max_running, rate, None)


def _checked(kind: str, max_running: int | Literal["any"] | None, rate: str | None, burst: int | None) -> NewLimit:
    """Refuse what must not become a row, and return what will."""
    at_once = None if max_running == ANY else max_running
    _check_whole("max_running", at_once, least=0, more=f", or {ANY!r}")
    _check_whole("burst", burst, least=1)
    if rate is None:
        return NewLimit(kind=kind, max_running=at_once, burst=burst)
    if rate == ANY:
        if burst is not None:
            raise InvalidInput("needs a rate", field="burst")
        return NewLimit(kind=kind, max_running=at_once)
    read = _RATE.fullmatch(str(rate))
    n = 0 if read is None else int(read[1])
    if read is None or not 1 <= n <= _MOST:
        raise InvalidInput(f"must be such as 10/s, 10/m, 10/h or 10/d, or {ANY!r}; not {rate!r}", field="rate")
    per_s = _UNITS[read[2]]
    if burst is None:
        burst = max(1, int(n / per_s * _BURST_S))
    _check_burst(burst, n, per_s)
    return NewLimit(kind=kind, max_running=at_once, rate=n, per_s=per_s, burst=burst)


def _check_whole(field: str, value: Any, *, least: int, more: str = "") -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST):
        raise InvalidInput(f"must be {least} to {_MOST:,}{more}", field=field)


def _check_burst(burst: int, rate: int, per_s: float) -> None:
    if burst * per_s / rate > _LONGEST_BURST_S:
        raise InvalidInput("is more than the rate lets begin in a year", field="burst")
