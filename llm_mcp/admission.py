"""Whether more jobs may join the queue: a long one is told to wait outside, not taken in until the disk is full.

How many wait is never counted for a request. A process looks at most once a second, no further than the cap and by the
index alone, and adds what it let in since; while less than half of the cap is used and it let in next to nothing, ten
seconds will do. So the cap is a guard rail, not a gate with a turnstile: the queue may go over it by what the *other*
processes let in on a look of theirs, each at most what it submits in a second, or a hundredth of the cap if that is
more; and by what is being written at the moment, transactions still open included.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from .errors import LlmMcpError, QueueFull
from .store import admission as rows
from .store.jobs import New
from .store.pool import Connection, Database

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_LOOK_ANYWAY_S = 10.0
_FEW = 100  # "next to nothing" is this part of the cap
_ASK_AGAIN_S = 5.0


class Admission:
    """What one process knows of the queue's length. Safe for threads.

    Parameters: `most`, how many jobs may wait; 0: any number.
    """

    def __init__(self, db: Database, *, most: int) -> None:
        self._db = db
        self._most = most
        self._mutex = threading.Lock()  # guards the rest
        self._found = 0
        self._since = 0
        self._looked_at = -_LOOK_ANYWAY_S
        self._looking = False

    def admit(self, new: Sequence[New], *, conn: Connection | None = None) -> None:
        """Let a batch in, or raise QueueFull. One whose keys all named jobs before adds nothing: it is always let in.

        `conn` is the transaction it will be part of; the keys are looked up there. Raises Unavailable.
        """
        if self._most == 0:
            return
        n = len(new)
        with self._mutex:
            look, before = self._due(n), self._since
            if not look and self._counted(n):
                return
        if look:
            self._look(before, needed=conn is None)
            with self._mutex:
                if self._counted(n):
                    return
        keys = {one.submission.unique_key for one in new}
        if None in keys or rows.named(self._db, [key for key in keys if key], conn=conn) < len(keys):
            raise QueueFull(
                f"too many jobs wait: the limit is {self._most} (LLM_MCP_MAX_QUEUED)", retry_after_s=_ASK_AGAIN_S
            )

    def _due(self, n: int) -> bool:
        """Whether it is this caller's turn to look; the others go by what is known meanwhile. Under the mutex."""
        if self._looking:
            return False
        quiet = 2 * self._found < self._most and _FEW * (self._since + n) <= self._most
        self._looking = time.monotonic() - self._looked_at >= (_LOOK_ANYWAY_S if quiet else _LOOK_S)
        return self._looking

    def _look(self, before: int, *, needed: bool) -> None:
        """Count; `before` were let in until now and are forgotten for it.

        `needed`: a database that does not answer is raised; else its owner will hear of it by the write.
        """
        found = None
        try:
            found = rows.depth(self._db, most=self._most)
        except LlmMcpError as error:
            if needed:
                raise
            log.warning("the queue was not counted", extra={"action": "depth_unknown", "error": str(error)})
        finally:
            with self._mutex:
                self._looking = False
                self._looked_at = time.monotonic()
                if found is not None:
                    self._found = found
                    self._since -= before  # what was let in while we counted may not be in it

    def _counted(self, n: int) -> bool:
        """Count a batch in if there is room for it. Under the mutex."""
        if self._found + self._since + n > self._most:
            return False
        self._since += n
        return True
