"""The hub: one thread of a process reads for everybody who watches a job.

Whoever watches has a seat. A seat is read for while its owner waits at it, and not again before the owner is back for
more: so each holds one portion at most, and who is slow costs nobody. Notices are gathered for a few milliseconds, then
all seats that have one are read for in one statement; who is new, or was told that there is more, waits for no
gathering. Now and then every seat is looked at without a notice, for notices may be missed.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections import deque

from .errors import LlmMcpError, NotFound, Unavailable
from .runtime import Runtime
from .seat import Seat
from .store import events as event_rows
from .store import line
from .store.events import Ask, Glance
from .store.line import Place
from .store.listen import JOB_UPDATE

log = logging.getLogger(__name__)

# Notices are gathered for so long for each seat that was read for the last time, up to the most, s: a few who wait hear
# at once, and many are not read for one by one.
_GATHER_ONE_S, _GATHER_S = 0.0005, 0.01
_SEATS_AT_ONCE = 1000
_LOOK_ANYWAY_S = 2.0
_LOOK_ANYWAY_DEAF_S = 0.5
# Seats that are due within so long of each other are read for together, s.
_TOGETHER_S = 0.25
_LINE_S = 1.0
_FIRST_PLACE_S = 0.5


class Hub:
    """Reads for the seats of one process. Its thread begins with the first who waits."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._mutex = threading.Lock()
        self._some = threading.Condition(self._mutex)
        self._large: deque[Seat] = deque()
        """Those whose next event is too large to be read beside others: each is first in its turn."""
        self._ready: dict[Seat, None] = {}
        self._in_line: set[Seat] = set()
        self._timers: list[tuple[float, int, Seat]] = []
        self._numbers = itertools.count()
        self._hurried = False
        self._idle = False
        self._read_at = self._line_at = self._gather_s = 0.0
        self._closed = False
        self._thread: threading.Thread | None = None

    # — for seats —

    def enter(self, seat: Seat) -> None:
        """Hear notices for a seat."""
        self._runtime.listener.add(JOB_UPDATE, str(seat.job_id), seat)

    def leave(self, seat: Seat) -> None:
        """Forget a seat."""
        self._runtime.listener.discard(JOB_UPDATE, str(seat.job_id), seat)
        with self._mutex:
            seat.waits = False
            seat.found = seat.place = None
            self._ready.pop(seat, None)
            self._in_line.discard(seat)

    def expect(self, seat: Seat, look_in_s: float | None) -> None:
        """The seat's owner begins to wait. Raises Unavailable when we are closed."""
        with self._mutex:
            if self._closed:
                raise Unavailable("this process watches no more")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="llm-mcp-hub", daemon=True)
                self._thread.start()
            now = time.monotonic()
            seat.waits = True
            self._line_up(seat, now)
            if look_in_s is not None:
                seat.due = now + look_in_s
            if seat.due <= now:
                self._ready[seat] = None
                self._hurried = True
                self._some.notify()
                return
            self._set_timer(seat)
            if seat.woken:
                self._make_ready(seat)

    def handed(self, seat: Seat) -> Glance | Place | None:
        """The owner ended its wait: return, or raise, what there is for it."""
        with self._mutex:
            seat.waits = False
            found, place, seat.found, seat.place = seat.found, seat.place, None, None
            if found is None:
                return place
            if place is not None:
                seat.place_told = None  # it was not
        if isinstance(found, Exception):
            raise found.with_traceback(None)
        return found

    def wake(self, seat: Seat) -> None:
        """There is a notice for a seat."""
        with self._mutex:
            seat.woken = True
            if seat.waits:
                self._make_ready(seat)

    def close(self) -> None:
        """Read no more; who waits from now on is refused."""
        with self._mutex:
            self._closed = True
            self._some.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=3.0)

    def _line_up(self, seat: Seat, now: float) -> None:
        if seat.in_line is None:
            self._in_line.discard(seat)
            seat.place_told = None
        elif seat not in self._in_line:
            if not self._in_line:
                self._line_at = max(self._line_at, now + _LINE_S)
                if self._idle:
                    self._some.notify()
            self._in_line.add(seat)
            seat.place_from = now + _FIRST_PLACE_S

    def _make_ready(self, seat: Seat) -> None:
        self._ready[seat] = None
        if self._idle:
            self._some.notify()

    def _set_timer(self, seat: Seat) -> None:
        if seat.due < seat.timer:
            seat.timer = seat.due
            heapq.heappush(self._timers, (seat.due, next(self._numbers), seat))
            if self._idle and self._timers[0][2] is seat:
                self._some.notify()

    # — the thread —

    def _run(self) -> None:
        while (batch := self._gathered()) is not None:
            try:
                if batch:
                    self._read(batch)
                if self._in_line and self._line_at <= time.monotonic():
                    self._tell_places()
            except Exception:
                # It reads for everybody: it must go on.
                log.exception("the hub failed", extra={"action": "hub_failed"})
                time.sleep(_LOOK_ANYWAY_DEAF_S)

    def _gathered(self) -> list[Seat] | None:
        """Wait until there is something to do; return for whom to read, None when we are closed."""
        with self._mutex:
            while not self._closed:
                now = time.monotonic()
                self._make_due_ready(now)
                line_at = self._line_at if self._in_line else math.inf
                if self._ready or self._large:
                    until = now if self._hurried or self._large else self._read_at + self._gather_s
                else:
                    until = min(line_at, self._timers[0][0] if self._timers else math.inf)
                if until <= now or line_at <= now:
                    return self._batch()
                self._idle = not self._ready
                self._some.wait(None if until == math.inf else until - now)
                self._idle = False
            return None

    def _make_due_ready(self, now: float) -> None:
        if not self._timers or self._timers[0][0] > now:
            return
        while self._timers and self._timers[0][0] <= now + _TOGETHER_S:
            at, _, seat = heapq.heappop(self._timers)
            if at != seat.timer:
                continue  # another one came before it
            seat.timer = math.inf
            if seat.waits and seat.due <= now + _TOGETHER_S:
                self._ready[seat] = None
            elif seat.waits:
                self._set_timer(seat)

    def _batch(self) -> list[Seat]:
        batch: dict[Seat, None] = {}
        if self._large:
            batch[self._large.popleft()] = None
        for seat in list(itertools.islice(self._ready, _SEATS_AT_ONCE)):
            del self._ready[seat]
            batch[seat] = None
        self._hurried = self._hurried and bool(self._ready)
        waiting = [seat for seat in batch if seat.waits]
        for seat in waiting:
            seat.woken = False
        return waiting

    def _read(self, batch: list[Seat]) -> None:
        asked: dict[Ask, list[Seat]] = {}  # those at one place of one job share what is read
        for seat in batch:
            asked.setdefault(Ask(seat.job_id, seat.after, seat.told, seat.most), []).append(seat)
        failed, found = None, dict[int, Glance | None]()
        try:
            found = event_rows.follow_many(self._runtime.db, list(asked))
        except Exception as error:  # noqa: BLE001 - theirs to raise, who wait for it
            failed = error
        hears = self._runtime.listener.hears(JOB_UPDATE)
        with self._mutex:
            self._read_at = time.monotonic()
            self._gather_s = min(_GATHER_S, _GATHER_ONE_S * len(batch))
            for n, (ask, seats) in enumerate(asked.items()):
                for seat in seats:
                    seat.due = self._read_at + (_LOOK_ANYWAY_S if hears else _LOOK_ANYWAY_DEAF_S)
                    if failed is not None:
                        self._hand(seat, failed)
                        continue
                    seat.read_at = self._read_at
                    if n in found:
                        glance = found[n]
                        self._hand(seat, NotFound(f"no job {ask.job_id}") if glance is None else glance)
                    elif seat.waits:
                        self._set_timer(seat)

    def _hand(self, seat: Seat, found: Glance | Exception) -> None:
        if not seat.waits:
            seat.woken = True  # its owner was just called away; it is read again when it is back
        elif isinstance(found, Glance) and found.more and not found.items and not self._moved(seat, found):
            self._large.append(seat)
        else:
            seat.waits = False
            seat.found = found
            seat.bell.set()

    def _moved(self, seat: Seat, found: Glance) -> bool:
        return (found.status, found.attempts) != (seat.told, seat.after.attempt)

    def _tell_places(self) -> None:
        now = time.monotonic()
        with self._mutex:
            self._line_at = now + _LINE_S
            seats = [(seat, seat.in_line) for seat in self._in_line if seat.waits and seat.place_from <= now]
        kinds = {job.kind for _, job in seats if job is not None}
        if not kinds:
            return
        try:
            found = line.line(self._runtime.db, kinds)
        except LlmMcpError:
            return  # nobody's place is worth an error
        with self._mutex:
            for seat, job in seats:
                place = None if job is None else found.place(job)
                if place is not None and seat.waits and seat.in_line is job and not place.same_as(seat.place_told):
                    seat.place = seat.place_told = place
                    seat.bell.set()


def of(runtime: Runtime) -> Hub:
    """Return the hub of a runtime."""
    return runtime.part("hub", Hub)
