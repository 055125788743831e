"""The desk at which workers that come by a door wait for a job: a hint costs one look, and one more for each job found.

Those who take the same kinds stand in one line. Only the first of a line looks, when there is a hint or now and then
without one; who leaves, with a job or without, has the next one look. So a thousand who wait ask no more than one.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from llm_mcp.runtime import Runtime
from llm_mcp.store.listen import JOB_QUEUED

# Hints that brought nothing so often in a row are followed no sooner than this, s.
_IN_VAIN = 2
_HOLD_BACK_S = 0.02


class Waiter:
    """Somebody who may have to wait. Owned by the thread that waits; `nudge` may be called from any."""

    def __init__(self) -> None:
        self.bell = threading.Event()
        self.nudged = False
        """Whether to wait no more: the client left, or the process is about to stop."""
        self.first = False
        self.looked_at = 0.0
        self.in_vain = 0

    def nudge(self) -> None:
        """End the wait."""
        self.nudged = True
        self.bell.set()


class Desk:
    """The lines of one process, each by the kinds its workers take. Safe for threads."""

    def __init__(self, runtime: Runtime) -> None:
        self._poll_s = runtime.settings.poll_s
        self._mutex = threading.Lock()
        self._lines: dict[frozenset[str], deque[Waiter]] = {}
        runtime.listener.hear(JOB_QUEUED, self._on_queued)

    @contextmanager
    def line(self, kinds: frozenset[str], waiter: Waiter) -> Iterator[None]:
        """Stand in the line of these kinds."""
        with self._mutex:
            line = self._lines.setdefault(kinds, deque())
            line.append(waiter)
            waiter.first = line[0] is waiter
        try:
            yield
        finally:
            with self._mutex:
                line.remove(waiter)
                if not line:
                    del self._lines[kinds]
                elif not line[0].first:
                    line[0].first = True
                    line[0].bell.set()

    def wait(self, waiter: Waiter, *, most_s: float, due_s: float | None) -> bool:
        """Wait until there is a reason to look, `most_s` seconds at most; say whether there is one.

        `due_s`: in so many seconds there will be (None: that is not known).
        """
        until = time.monotonic() + most_s
        if waiter.first:
            poll_s = self._poll_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
            most_s = min(most_s, poll_s, poll_s if due_s is None else max(due_s, 0.001))
        hinted = waiter.bell.wait(most_s)
        waiter.in_vain = waiter.in_vain + 1 if hinted else 0
        if waiter.in_vain > _IN_VAIN and not waiter.nudged:
            time.sleep(max(0.0, min(until, waiter.looked_at + _HOLD_BACK_S) - time.monotonic()))
        waiter.looked_at = time.monotonic()
        waiter.bell.clear()
        return waiter.first

    def _on_queued(self, _payload: str) -> None:
        """There may be jobs, for any kind: the first of every line looks."""
        with self._mutex:
            for line in self._lines.values():
                line[0].bell.set()


def of(runtime: Runtime) -> Desk:
    """Return the desk of a runtime."""
    return runtime.part("desk", Desk)
