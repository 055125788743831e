"""Wake-ups: NOTIFY is a hint that spares a poll, never the truth.

`Notifier` sends in its own asynchronous transaction after the commit (inside the job's it would serialise every
commit of the database), at once when quiet and gathered to one statement while busy. `Listener` holds the process's
one LISTEN connection; its thread does nothing but pass notices on.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import psycopg

from .pool import conninfo

log = logging.getLogger(__name__)

JOB_UPDATE = "job_update"
"""Channel: a job or its stream changed; the payload is its id."""
JOB_QUEUED = "job_queued"
"""Channel: there is something to claim; the payload is empty."""
JOB_ENDED = "job_ended"
"""Channel: a job was ended from outside (cancelled, past its deadline); the payload is its id."""

_CHANNELS = (JOB_UPDATE, JOB_QUEUED, JOB_ENDED)
_GATHER_S = 0.005
_MAX_PENDING = 10_000
_RETRY_S = 1.0
_RELISTEN_S = 0.25
# The commit need not reach the disk: who would miss the notice after a crash polls anyway. Set for this one
# transaction, because a pooler would hand the session on.
_SEND = """SELECT pg_notify(channel, payload)
  FROM set_config('synchronous_commit', 'off', true), unnest(%s::text[], %s::text[]) AS n (channel, payload)"""


class Notifier:
    """Sends notices from a thread of its own; `notify` never waits and never fails.

    Under load repeats are merged; past a bound notices are dropped, for polling finds the work all the same.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pending: dict[tuple[str, str], None] = {}
        self._mutex = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._conn: psycopg.Connection[object] | None = None

    def notify(self, channel: str, payload: str = "") -> None:
        """Tell listeners soon that something happened."""
        with self._mutex:
            if self._closing.is_set():
                return
            if len(self._pending) < _MAX_PENDING:
                self._pending[(channel, payload)] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="llm-mcp-notify", daemon=True)
                self._thread.start()
        self._wake.set()

    def close(self) -> None:
        """Send what is waiting and stop."""
        with self._mutex:
            self._closing.set()
            thread = self._thread
        self._wake.set()
        if thread is not None:
            thread.join(timeout=3.0)

    def _run(self) -> None:
        closing = False
        while not closing:
            self._wake.wait()
            self._wake.clear()
            closing = self._closing.is_set()  # whatever came before it is in the batch below
            with self._mutex:
                batch, self._pending = self._pending, {}
            # A connection that broke while nothing was said is replaced at once; a server that is down is not asked
            # a thousand times a second.
            if not (self._send(batch) or self._send(batch)):
                with self._mutex:
                    self._pending = {**batch, **self._pending}
                self._wake.set()
                self._closing.wait(_RETRY_S)
            self._closing.wait(_GATHER_S)
        if self._conn is not None:
            self._conn.close()

    def _send(self, batch: Collection[tuple[str, str]]) -> bool:
        if not batch:
            return True
        try:
            if self._conn is None:
                # Never prepared: the connection may be a pooler's.
                self._conn = psycopg.connect(conninfo(self._dsn), autocommit=True, prepare_threshold=None)
            self._conn.execute(_SEND, ([channel for channel, _ in batch], [payload for _, payload in batch]))
        except psycopg.Error as error:
            log.warning("cannot notify", extra={"action": "notify_failed", "error": type(error).__name__})
            if self._conn is not None:
                self._conn.close()
                self._conn = None
            return False
        return True


class Listener:
    """Hears notices and sets the events of those who asked.

    One thread and one connection a process, started with the first subscriber. While it is reconnecting (and just
    after) everybody is woken, because notices may have been missed.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._waiting: dict[tuple[str, str], set[threading.Event]] = defaultdict(set)
        self._mutex = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._again = threading.Event()
        self.connected = False
        self.on_session: Callable[[psycopg.Connection[object]], None] | None = None
        """Called on the listener's thread with every new session, before anything is heard in it."""

    def renew(self) -> None:
        """Open a new session soon, if there is one: for whoever set `on_session` late."""
        self._again.set()

    @contextmanager
    def subscribe(self, channel: str, payload: str) -> Iterator[threading.Event]:
        """Yield an event that is set whenever a notice with this payload arrives on this channel."""
        event = threading.Event()
        self.add(channel, payload, event)
        try:
            yield event
        finally:
            self.discard(channel, payload, event)

    def add(self, channel: str, payload: str, event: threading.Event) -> None:
        """Set `event` at every such notice until `discard`."""
        with self._mutex:
            self._waiting[(channel, payload)].add(event)
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="llm-mcp-listen", daemon=True)
                self._thread.start()

    def discard(self, channel: str, payload: str, event: threading.Event) -> None:
        """Undo `add`."""
        with self._mutex:
            waiting = self._waiting.get((channel, payload))
            if waiting is not None:
                waiting.discard(event)
                if not waiting:
                    del self._waiting[(channel, payload)]

    def close(self) -> None:
        """Stop listening and wake everybody a last time."""
        self._closing.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout=3.0)
        self._wake_all()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with psycopg.connect(conninfo(self._dsn), autocommit=True) as conn:
                    self._again.clear()
                    if self.on_session is not None:
                        self.on_session(conn)
                    for channel in _CHANNELS:
                        conn.execute(f"LISTEN {channel}")
                    self.connected = True
                    self._wake_all()
                    self._hear(conn)
            except (psycopg.Error, OSError) as error:
                log.warning("listening again soon", extra={"action": "listen_lost", "error": type(error).__name__})
            self.connected = False
            self._wake_all()
            self._closing.wait(_RELISTEN_S)

    def _hear(self, conn: psycopg.Connection[object]) -> None:
        # No SQL may run on this connection inside the loop: psycopg would wait for itself for ever.
        while not (self._closing.is_set() or self._again.is_set()):
            for notice in conn.notifies(timeout=0.5):
                self._wake(notice.channel, notice.payload)
                if self._closing.is_set():
                    return

    def _wake(self, channel: str, payload: str) -> None:
        with self._mutex:
            events = list(self._waiting.get((channel, payload), ()))
        for event in events:
            event.set()

    def _wake_all(self) -> None:
        with self._mutex:
            events = {event for waiting in self._waiting.values() for event in waiting}
        for event in events:
            event.set()
