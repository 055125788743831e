"""A worker's turns at the queue: what is finished is handed in and what is next is leased, in one commit; where there
is nothing to hand in, or nothing to lease, the other half alone.

`finish` is called by the worker threads; `due_s`, `turn` and `close` by the one thread that claims, which owns all the
rest. Nothing here raises for the database's sake: what was not written is handed in again.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from uuid import UUID

import uuid_utils.compat

from .errors import InvalidInput, LlmMcpError, Unavailable
from .hints import Hints
from .job import Lease
from .keeper import Keeper
from .pace import Pace
from .results import PORTIONS, Result, Results
from .run import Run
from .store import leases as rows
from .store.leases import START, Finished, Place
from .store.listen import JOB_QUEUED
from .wake import Wake

log = logging.getLogger(__name__)

# How long a claimer may go on where it was before it looks at the head of the queue again, s.
_HEAD_S = 0.1
# A job that waited this long in memory is given back: what runs before it is not short after all, s.
_PATIENCE_S = 0.25
_PAUSE_S = 0.25
_LAST_WORDS_S = 3.0


class Claimer:
    """Takes turns for one worker process.

    Parameters: `keeper`, which holds the runs; `kinds`, a function that returns the kinds it takes.
    """

    def __init__(self, keeper: Keeper, *, kinds: Callable[[], Sequence[str]], wake: Wake) -> None:
        self._keeper = keeper
        self._runtime = keeper.runtime
        self._kinds = kinds
        self._wake = wake
        self._pace = Pace(keeper.threads)
        self._results = Results(keeper, self._pace)
        self._hints = Hints(keeper, kinds=kinds)
        self._waiting: deque[Run] = deque()
        self._unanswered: UUID | None = None
        self._place: Place | None = None
        self._head_at = 0.0
        self._mixed_until = 0.0
        self._look_at = 0.0
        self._dry = False
        """Whether our last look claimed, left nothing that we could take, and none of our kinds is limited: until there
        is a reason to look again, a result is handed in without a claim, as long as we would be told of one."""
        self._paused_until = 0.0

    # — for the worker threads —

    def finish(self, run: Run, *, result: str, metrics: str, events: Sequence[tuple[int, str, str]] = ()) -> None:
        """Have the result of a run (JSON text, as are its figures) handed in with the next turn.

        `events`: what is not written yet of its stream, (seq, type, JSON text) each.
        """
        self._pace.ran(run.lease.kind, time.monotonic() - run.started_at)
        if self._results.add(Result(run, Finished(*run.key, result, metrics, events))):
            self._wake.nudge()

    def failed(self, run: Run) -> None:
        """Note how long a run took that has no result to hand in."""
        self._pace.ran(run.lease.kind, time.monotonic() - run.started_at)

    # — for the claiming thread —

    def due_s(self) -> float:
        """Return how long there is nothing to do unless somebody wakes us, s."""
        until = min(self._look_at, self._results.due_at())
        if self._overbooked():
            until = min(until, self._waiting[0].held_at + _PATIENCE_S)
        return max(until, self._paused_until) - time.monotonic()

    def turn(self) -> list[Run]:
        """Take a turn if it is time for one and return the runs it brought, in the order they are to begin."""
        hinted, freed = self._wake.take()
        if hinted:
            self._look_at = min(self._look_at, self._hints.hear())
        if freed:
            self._look_at = 0.0
        self._give_back()
        if self.due_s() > 0:
            return []
        with self._keeper.claiming:
            return self._take_turn()

    def close(self) -> None:
        """Hand in what is finished and give back what a claim took whose reply was lost; give up after a few seconds
        without a database."""
        until = time.monotonic() + _LAST_WORDS_S
        while (batch := self._results.take()) or self._unanswered is not None:
            try:
                self._hand_in(batch)
                batch = []
                self._disown()
            except LlmMcpError as error:
                self._results.put_back(batch)
                if time.monotonic() >= until:
                    log.error("results not written", extra={"action": "settle_failed", "error": str(error)})
                    return
                self._wake.wait(_PAUSE_S)
                self._wake.take()

    def _take_turn(self) -> list[Run]:
        batch = self._results.take()
        try:
            if batch and self._dry and time.monotonic() < self._look_at and self._runtime.listener.hears(JOB_QUEUED):
                self._hand_in(batch)
                return []
            return self._look(batch)
        except Exception as error:
            if isinstance(error, Unavailable):
                log.warning("no turn", extra={"action": "turn_failed", "error": str(error)})
            else:
                log.exception("no turn", extra={"action": "turn_failed"})
            self._pause()
            self._results.put_back(batch)
            return []

    def _look(self, batch: list[Result]) -> list[Run]:
        """Hand in a batch and lease what there is for us, unless a hint says that others will."""
        self._dry = False
        idle = self._keeper.threads - (self._keeper.held - len(batch))
        ahead = self._ahead()
        n = 0 if self._keeper.draining or self._keeper.alone else max(0, idle + ahead)
        if ahead:
            n = min(n, (self._keeper.threads + ahead) // PORTIONS)
        poll_s = self._runtime.settings.poll_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        self._look_at = poll_at = time.monotonic() + poll_s
        hinted = self._hints.take()
        if not batch and n == 0 and self._unanswered is None:
            return []
        if hinted and not batch and self._unanswered is None and (again_at := self._hints.put_off()) is not None:
            self._look_at = min(self._look_at, again_at)
            return []
        runs = self._exchange(batch, n, free=max(0, idle))
        if runs:
            self._hints.followed(in_time=True)
        elif hinted and n and not batch and self._look_at == poll_at:  # nor is one due before that
            self._hints.followed(in_time=False)
        return runs

    def _exchange(self, batch: list[Result], n: int, *, free: int) -> list[Run]:
        """Hand in a batch and lease up to `n` jobs, of which the long ones for the `free` threads only."""
        claimed_at = time.monotonic()
        if self._unanswered is not None:
            self._hand_in(batch)
            leases = self._recover(self._unanswered)
            self._look_at = 0.0  # that was no claim
        elif n == 0:
            self._hand_in(batch)
            return []
        else:
            leases = self._claim(batch, n, free)
        self._unanswered = None
        runs = self._keeper.hold(leases, claimed_at=claimed_at)
        self._waiting.extend(runs)
        short = self._pace.short
        self._keeper.begun(run for run in runs if run.lease.kind not in short)
        return runs

    def _claim(self, batch: list[Result], n: int, free: int) -> list[Lease]:
        settings, now = self._runtime.settings, time.monotonic()
        place = self._place if self._place is not None and now - self._head_at < _HEAD_S else START
        if place is START:
            self._head_at = now
        short = self._pace.short
        self._unanswered = uuid_utils.compat.uuid7()
        try:
            turn = rows.turn(
                self._runtime.db,
                self._keeper.worker_id,
                self._unanswered,
                kinds=self._kinds(),
                n=n,
                lease_s=settings.lease_s,
                ageing_s=settings.ageing_s,
                finished=[result.finished for result in batch],
                short=short,
                free=free,
                place=place,
            )
        except InvalidInput as error:  # nothing of it was written
            log.warning("a turn was refused", extra={"action": "turn_refused", "error": str(error)})
            self._unanswered = None
            self._results.hand_in_each(batch)
            self._pause()  # it may have been a job that cannot be leased, and will be refused again
            return []
        self._place = turn.place
        self._dry = turn.found == len(turn.leases) and not turn.limited
        if (turn.found == n and turn.leases) or place is not START:
            self._look_at = 0.0  # there is more, if only further up
        elif turn.wait_s is not None:
            self._look_at = min(self._look_at, now + turn.wait_s)
        if turn.left:
            self._mixed_until = now + _PATIENCE_S
        if turn.left or turn.freed:
            # Others passed by what we looked at and left, or found no room for it.
            self._runtime.notifier.notify(JOB_QUEUED)
        if self._results.settle(batch, all_taken=turn.finished == len(batch), followed=turn.followed):
            self._look_at = 0.0
        return turn.leases

    def _recover(self, claim_id: UUID) -> list[Lease]:
        """Return what a claim took whose reply was lost."""
        db, lease_s = self._runtime.db, self._runtime.settings.lease_s
        leases = rows.claimed(db, self._keeper.worker_id, claim_id)
        # Nobody beat for these meanwhile: a renewal proves which still stand.
        held = rows.heartbeat(db, [(lease.job_id, lease.token) for lease in leases], lease_s=lease_s)
        return [lease for lease in leases if lease.token in held]

    def _disown(self) -> None:
        """Give back what a claim took whose reply was lost."""
        if self._unanswered is None:
            return
        db = self._runtime.db
        leases = rows.claimed(db, self._keeper.worker_id, self._unanswered)
        if leases and rows.release(db, [(lease.job_id, lease.token) for lease in leases]):
            self._runtime.notifier.notify(JOB_QUEUED)
        self._unanswered = None

    def _hand_in(self, batch: list[Result]) -> None:
        if self._results.hand_in(batch):
            self._look_at = 0.0

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + _PAUSE_S * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        self._look_at = 0.0

    def _ahead(self) -> int:
        return 0 if time.monotonic() < self._mixed_until else self._pace.ahead

    def _overbooked(self) -> bool:
        """Whether jobs wait in memory for a thread."""
        while self._waiting and (self._waiting[0].begun or self._waiting[0].was_cut):
            self._waiting.popleft()
        return bool(self._waiting) and self._keeper.held > self._keeper.threads

    def _give_back(self) -> None:
        """Let others have jobs that wait here although some worker may be idle."""
        if not self._overbooked() or time.monotonic() - self._waiting[0].held_at < _PATIENCE_S:
            return
        self._pace.stalled()
        runs = [run for run in self._waiting if run.give_back()]
        self._waiting.clear()
        self._keeper.release(runs)
        self._keeper.drop(runs)
