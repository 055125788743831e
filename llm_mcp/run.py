"""One attempt in progress, as the code that does the work sees it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import orjson

from .errors import Cut, InvalidInput, LeaseLost, Unavailable
from .events import DELTA, PROGRESS, USAGE
from .job import Lease
from .runtime import Runtime
from .store import events as rows
from .store import needs
from .strictjson import dumps_lossy

log = logging.getLogger(__name__)

# A piece of text this long is not joined by the next: to join is to copy, characters.
_LONG_PIECE = 16 * 2**10


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
        self.payload: Any = None
        """What the actor is given, once it fits: an instance of the kind's model, else the JSON value."""
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
        self.awaited = True
        """Whether the first piece is to go out at once: somebody may be waiting for it."""
        self.metrics: dict[str, Any] = {}
        self._on_dirty = on_dirty
        self._mutex = threading.Lock()
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._bytes_left = runtime.settings.max_stream_bytes
        self._events_left = runtime.settings.max_stream_events - 1
        self._truncated = False
        self._flushing = threading.Lock()
        self._seq = 0
        self._unanswered: list[tuple[int, str, str]] = []
        self._cutter: Callable[[], None] | None = None
        self._cut: str | None = None
        self._closed = False

    # — for the one who works —

    def text(self, text: str, *, logprobs: Sequence[Mapping[str, Any]] = ()) -> None:
        """Add a piece of the answer to the stream; the first one goes out at once, later ones within 100 ms.

        `logprobs`: its tokens with their log probabilities, in OpenAI's form; such a piece is not joined to another.
        A stream over its bounds ends with a delta that says `truncated`, and what is added after that is dropped: the
        work and its result are none the worse for it. Raises Cut when the attempt must stop, as do all that add to the
        stream.
        """
        if text:
            self._add(DELTA, {"text": text, **({"logprobs": list(logprobs)} if logprobs else {})})

    def thinking(self, text: str) -> None:
        """Add a piece of the model's reasoning to the stream."""
        if text:
            self._add(DELTA, {"thinking": text})

    def tool_calls(self, pieces: Sequence[Mapping[str, Any]]) -> None:
        """Add pieces of the model's calls of tools, in OpenAI's form, each with its `index`; they stay as they are."""
        if pieces:
            self._add(DELTA, {"tool_calls": list(pieces)})

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

    def inputs(self) -> list[Any]:
        """Return the results of the jobs this one needed, JSON values, in the order in which it named them.

        None for one that ended in error (`after_error="run"`), or whose result is kept no more. Raises Unavailable.
        """
        found = needs.inputs(self.runtime.db, self.lease.job_id)
        return [None if text is None else orjson.loads(text) for text in found]

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
                    self._write(batch)
                except LeaseLost:
                    self.cut("lease_lost")
                    return
                self._unanswered = []

    def last_words(self) -> list[tuple[int, str, str]]:
        """Return what is still to be written, (seq, type, JSON text) each, for who writes it with the result."""
        with self._flushing:
            rest = [*self._unanswered, *self._number()]
            self._unanswered = []
        return rest

    @property
    def unwritten(self) -> bool:
        """Whether something of the stream is still to be written."""
        return self._cut is None and bool(self._waiting or self._unanswered)

    def take_batch(self) -> list[tuple[int, str, str]] | None:
        """Hold the stream until `batch_over`, for who writes many in one go, and return what is to be written next.

        Nothing is held when that is [], for there is nothing, or None, for somebody writes it just now.
        """
        if not self.unwritten:
            return []
        if not self._flushing.acquire(blocking=False):
            return None
        batch: list[tuple[int, str, str]] = []
        try:
            batch = self._unanswered or self._number()
        finally:
            if not batch:
                self._flushing.release()
        return batch

    def batch_over(self, *, written: bool) -> None:
        """Let go of the stream. What is not known to be written keeps its numbers and goes first next time."""
        if written:
            self._unanswered = []
        self._flushing.release()

    def _write(self, batch: list[tuple[int, str, str]]) -> None:
        """Write numbered events: (seq, type, JSON text)."""
        rows.append(self.runtime.db, *self.key, batch)
        self.runtime.announce(self.lease.job_id)

    def _number(self) -> list[tuple[int, str, str]]:
        """Give what is waiting its numbers, for good; from now on nothing is joined to it."""
        with self._mutex:
            batch, self._waiting = self._waiting, []
        self._unanswered = [(self._seq + i, kind, dumps_lossy(data)) for i, (kind, data) in enumerate(batch, 1)]
        self._seq += len(batch)
        return self._unanswered

    def _add(self, kind: str, data: dict[str, Any]) -> None:
        self.check()
        with self._mutex:
            if self._truncated:
                return
            first = self.first_token_at is None and kind == DELTA
            if first:
                self.first_token_at = time.monotonic()
            self._bytes_left -= _size(kind, data)
            if self._bytes_left < 0 or not (self._joined(kind, data) or self._appended(kind, data)):
                self._truncated = True
                self._waiting.append((DELTA, {"text": "", "truncated": True}))
        if self._truncated:
            log.warning("stream truncated", extra={"action": "stream_truncated"})
        if first and self.awaited:
            try:
                self.flush()
            except Unavailable:
                self._on_dirty(self)
        else:
            self._on_dirty(self)

    def _joined(self, kind: str, data: dict[str, Any]) -> bool:
        """Append a delta's text to the waiting one of its sort, when it is the last; say whether it was."""
        if kind != DELTA or not self._waiting:
            return False
        last_kind, last = self._waiting[-1]
        if last_kind != DELTA or last.keys() != data.keys() or not _just_text(data):
            return False
        (name,) = data
        if len(last[name]) > _LONG_PIECE:
            return False
        last[name] += data[name]
        return True

    def _appended(self, kind: str, data: dict[str, Any]) -> bool:
        """Add an event if one more may be added."""
        if self._events_left == 0:
            return False
        self._events_left -= 1
        self._waiting.append((kind, data))
        return True


def _size(kind: str, data: dict[str, Any]) -> int:
    """Return how many bytes of a stream an event is: of a delta its text, else all of it."""
    texts = data.values() if kind == DELTA and _just_text(data) else [dumps_lossy(data)]
    return sum(len(text) if text.isascii() else len(text.encode(errors="surrogatepass")) for text in texts)


def _just_text(delta: dict[str, Any]) -> bool:
    return len(delta) == 1 and "tool_calls" not in delta


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
