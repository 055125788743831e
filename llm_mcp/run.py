"""One attempt in progress, as the code that does the work sees it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from .errors import Cut, InvalidInput, LeaseLost, Unavailable
from .events import DELTA, PROGRESS, USAGE
from .job import Lease
from .runtime import Runtime
from .store import events as rows
from .strictjson import dumps_lossy

log = logging.getLogger(__name__)

# A stalled database must not make us hold a book in memory: past this the attempt fails, characters.
_MAX_WAITING = 8 * 2**20


class Run:
    """The attempt this thread is working on: its lease, its stream, and the string that stops it.

    Owned by the worker thread that runs the job. `cut` may be called from any thread; `flush` by the keeper's.
    """

    def __init__(
        self, lease: Lease, runtime: Runtime, *, fence_at: float, on_dirty: Callable[[Run], None] = lambda _: None
    ) -> None:
        self.lease = lease
        self.runtime = runtime
        self.fence_at = fence_at
        """Monotonic instant at which we must stop unless a heartbeat moved it, s."""
        self.deadline = None if lease.seconds_left is None else time.monotonic() + lease.seconds_left
        """Monotonic instant of the job's own deadline, s."""
        self.ended = False
        """Whether the work came to an end of its own: `result`, or `exception`, is its outcome."""
        self.result: Any = None
        """What the actor returned: any JSON value."""
        self.exception: BaseException | None = None
        """What it raised instead."""
        self.held_at = time.monotonic()
        """Monotonic instant at which this process got the lease, s."""
        self.started_at = self.held_at
        """Monotonic instant at which its actor was called, s."""
        self.begun = False
        """Whether its actor was called."""
        self.first_token_at: float | None = None
        self.metrics: dict[str, Any] = {}
        self._on_dirty = on_dirty
        self._mutex = threading.Lock()
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._size = 0
        self._flushing = threading.Lock()
        self._seq = 0
        self._unanswered: list[tuple[int, str, str]] = []
        self._cutter: Callable[[], None] | None = None
        self._cut: str | None = None
        self._closed = False

    # — for the one who works —

    def text(self, text: str) -> None:
        """Add a piece of the answer to the stream; the first one goes out at once, later ones within 100 ms.

        Raises Cut when the attempt must stop (so do all that add to the stream), Unavailable when the database has
        been away for so long that too much is waiting.
        """
        if text:
            self._add(DELTA, {"text": text})

    def thinking(self, text: str) -> None:
        """Add a piece of the model's reasoning to the stream."""
        if text:
            self._add(DELTA, {"thinking": text})

    def progress(self, fraction: float, note: str = "") -> None:
        """Say how far the work is: `fraction` from 0 to 1, and a few words.

        Raises InvalidInput outside 0..1.
        """
        if not 0 <= fraction <= 1:
            raise InvalidInput("must be between 0 and 1", field="fraction")
        self._add(PROGRESS, {"fraction": fraction, "note": note})

    def usage(self, **counts: Any) -> None:
        """Say what the attempt used, e.g. `tokens_in=…, tokens_out=…`."""
        self._add(USAGE, counts)

    def check(self) -> None:
        """Raise Cut when this attempt must stop: lease lost, cancelled, deadline passed or worker draining."""
        if self._cut is not None:
            raise Cut(self._cut)

    def when_cut(self, cutter: Callable[[], None] | None) -> None:
        """Have `cutter` called (from another thread, at once when it is too late already) when the attempt must stop.

        It must be quick: it shuts a socket, sets a flag. None to forget it.
        """
        with self._mutex:
            self._cutter = cutter
            late = self._cut is not None
        if late and cutter is not None:
            cutter()

    # — for the keeper and the broker —

    @property
    def key(self) -> tuple[UUID, int]:
        """(job id, token): what every fenced statement wants."""
        return self.lease.job_id, self.lease.token

    def begin(self) -> bool:
        """A thread has come to it; False when it need not begin any more."""
        self.started_at = time.monotonic()
        with self._mutex:
            self.begun = self._cut is None
        return self.begun

    def give_back(self) -> bool:
        """Never begin; False when it has begun, or was cut, already."""
        with self._mutex:
            if self.begun or self._cut is not None:
                return False
            self._cut = "given back"
            return True

    def cut(self, why: str) -> None:
        """Stop the attempt from outside: nothing of it is written any more, its open call is cut at the socket."""
        with self._mutex:
            if self._closed or self._cut is not None:
                return
            self._cut = why
            cutter = self._cutter
        if cutter is not None:
            try:
                cutter()
            except Exception:
                # The thread that watches all leases is calling; one actor's cutter must not end it.
                log.exception("a call was not cut", extra={"action": "cut_failed", "job_id": str(self.lease.job_id)})

    @property
    def was_cut(self) -> str | None:
        """Why the attempt was cut, None when it was not."""
        return self._cut

    def timings(self) -> dict[str, Any]:
        """Return the attempt's figures for its row: `ms` in all, `ttft_ms` to the first piece, and what was noted."""
        figures = {"ms": round((time.monotonic() - self.started_at) * 1000)}
        if self.first_token_at is not None:
            figures["ttft_ms"] = round((self.first_token_at - self.started_at) * 1000)
        return {**figures, **self.metrics}

    def close(self) -> None:
        """The work is over: a cut from now on reaches nobody."""
        with self._mutex:
            self._closed = True
            self._cutter = None

    def flush(self) -> None:
        """Write what is waiting. A lost lease cuts the attempt.

        Raises Unavailable while the database is away. What was sent and not answered may have been written: it keeps
        its numbers and is sent again just as it was, before anything newer.
        """
        if not (self._waiting or self._unanswered):
            return
        with self._flushing:
            while self._cut is None and (batch := self._unanswered or self._number()):
                try:
                    rows.append(self.runtime.db, *self.key, batch)
                except LeaseLost:
                    self.cut("lease_lost")
                    return
                self._unanswered = []
                self.runtime.announce(self.lease.job_id)

    def _number(self) -> list[tuple[int, str, str]]:
        """Give what is waiting its numbers, for good; from now on nothing is joined to it."""
        with self._mutex:
            batch, self._waiting, self._size = self._waiting, [], 0
        self._unanswered = [(self._seq + i, kind, dumps_lossy(data)) for i, (kind, data) in enumerate(batch, 1)]
        self._seq += len(batch)
        return self._unanswered

    def _add(self, kind: str, data: dict[str, Any]) -> None:
        self.check()
        with self._mutex:
            first = self.first_token_at is None and kind == DELTA
            if first:
                self.first_token_at = time.monotonic()
            if not (self._waiting and _joined(self._waiting[-1], kind, data)):
                self._waiting.append((kind, data))
            self._size += _size(data)
            too_much = self._size > _MAX_WAITING
        if too_much:
            raise Unavailable("the stream cannot be written: Postgres has been away too long")
        if first:
            try:
                self.flush()
            except Unavailable:
                self._on_dirty(self)
        else:
            self._on_dirty(self)


def _joined(last: tuple[str, dict[str, Any]], kind: str, data: dict[str, Any]) -> bool:
    """Append a delta's text to the waiting one of its sort, when it is the last; say whether it was."""
    if kind != DELTA or last[0] != DELTA or last[1].keys() != data.keys():
        return False
    for name, text in data.items():
        last[1][name] += text
    return True


def _size(data: dict[str, Any]) -> int:
    return 32 + sum(len(value) for value in data.values() if isinstance(value, str))


_running: ContextVar[Run | None] = ContextVar("llm_mcp_run", default=None)


def current() -> Run:
    """Return the attempt the calling thread works on.

    Raises RuntimeError outside an actor.
    """
    run = _running.get()
    if run is None:
        raise RuntimeError("no job is running in this thread")
    return run


def enter(run: Run | None) -> None:
    """Make `run` the calling thread's attempt (None: it has none)."""
    _running.set(run)
