"""The results of a worker's runs, from the moment they are there until they are handed in."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from . import needs
from .errors import InvalidInput, LeaseLost, NotFound
from .keeper import Keeper
from .pace import Pace
from .run import Run
from .store import leases as rows
from .store.leases import Finished

log = logging.getLogger(__name__)

# How long a result waits for others to be handed in with it, s.
_LINGER_S = 0.002
# Jobs are claimed in so many portions of what may be held, and a turn is worth its while once one is finished: the
# threads work on another meanwhile.
PORTIONS = 2
_TURN_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Result:
    """A run and what is to be handed in for it."""

    run: Run
    finished: Finished


class Results:
    """Those of one worker process, in the order they came. Safe for threads.

    Parameters: `keeper`, which holds their runs; `pace`, of which it depends how many are worth a turn.
    """

    def __init__(self, keeper: Keeper, pace: Pace) -> None:
        self._keeper = keeper
        self._runtime = keeper.runtime
        self._db = keeper.runtime.db
        self._pace = pace
        self._mutex = threading.Lock()  # guards the next two
        self._waiting: list[Result] = []
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, result: Result) -> bool:
        """Keep a result for the next turn; return whether that is due sooner now."""
        with self._mutex:
            self._waiting.append(result)
            first = len(self._waiting) == 1
            if first:
                self._since = time.monotonic()
            return first or self._full()

    def due_at(self) -> float:
        """Return when they are to be handed in, monotonic; inf while there are none."""
        with self._mutex:
            if not self._waiting:
                return math.inf
            return 0.0 if self._full() else self._since + _LINGER_S

    def take(self) -> list[Result]:
        """Take the first of them, as much as one statement should carry."""
        with self._mutex:
            size = n = 0
            while n < len(self._waiting) and size < _TURN_BYTES:
                one = self._waiting[n].finished
                size += len(one.result) + sum(len(data) for _, _, data in one.events)
                n += 1
            batch, self._waiting = self._waiting[:n], self._waiting[n:]
        return batch

    def put_back(self, batch: Sequence[Result]) -> None:
        """Keep what was not handed in for the next turn, but for those whose lease cannot be trusted any more."""
        now = time.monotonic()
        kept = [result for result in batch if result.run.fence_at > now]
        if late := [result.run for result in batch if result.run.fence_at <= now]:
            for run in late:
                log.error("result not written", extra={"action": "settle_failed", "job_id": str(run.lease.job_id)})
            self._keeper.drop(late)
        with self._mutex:
            held = {result.run for result in self._waiting}
            self._waiting[:0] = [result for result in kept if result.run not in held]

    def hand_in(self, batch: list[Result]) -> bool:
        """Hand in a batch, with nothing else; return as `settle`.

        Raises Unavailable; what is left in `batch` is then to be handed in again.
        """
        if not batch:
            return False
        try:
            taken, followed = rows.complete_many(self._db, [result.finished for result in batch])
        except InvalidInput:
            return self.hand_in_each(batch)
        return self.settle(batch, all_taken=taken == len(batch), followed=followed)

    def hand_in_each(self, batch: list[Result]) -> bool:
        """Hand in results of which the database refuses one: that one's attempt fails, the others stand.

        Whatever is settled is taken out of `batch`. Returns as `settle`; raises Unavailable.
        """
        others = False
        while batch:
            result = batch[0]
            try:
                rows.complete_many(self._db, [result.finished])
            except InvalidInput as error:
                with suppress(LeaseLost, NotFound):  # then it is nobody's result
                    rows.fail(self._db, *result.run.key, error=f"result: {error}", retryable=False, delay_s=0.0)
            others = self.settle([result], all_taken=True) or others
            del batch[0]
        return others

    def settle(self, batch: Sequence[Result], *, all_taken: bool, followed: Sequence[UUID] | None = None) -> bool:
        """These results were taken, or refused for good; others need those jobs `followed`, None: maybe any.

        Returns whether one that needed them may run now. Raises Unavailable.
        """
        if not all_taken:
            for error in rows.refusals(self._db, [result.finished for result in batch]).values():
                log.warning("late result refused", extra={"action": "lease_lost", "error": str(error)})
        # Their places are no news: whoever handed them in counted them, or knows of nothing to take.
        self._keeper.drop([result.run for result in batch], counted=True)
        job_ids = [result.finished.job_id for result in batch]
        self._runtime.announce(*job_ids)
        return needs.advance(self._runtime, job_ids if followed is None or not all_taken else followed)

    def _full(self) -> bool:
        """Whether they are worth a turn at once: nothing else runs, or a portion is finished. Under the mutex."""
        n = len(self._waiting)
        return n >= self._keeper.held or PORTIONS * n >= self._keeper.threads + self._pace.ahead
