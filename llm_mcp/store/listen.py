"""Wake-ups: NOTIFY is a hint that spares a poll, never the truth.

`Notifier` sends in its own asynchronous transaction after the commit (inside the job's it would serialise every
commit of the database), at once when quiet and gathered to one statement while busy. `Listener` holds the process's
one LISTEN connection; its thread does nothing but pass notices on.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import orjson
import psycopg
from psycopg.pq import Escaping, ExecStatus

from .pool import Connection, conninfo
from .session import Session
from .sql import DEFAULT_SCHEMA

log = logging.getLogger(__name__)

JOB_UPDATE = "job_update"
"""Channel: a job or its stream changed; the payload is its id."""
JOB_QUEUED = "job_queued"
"""Channel: there is something to claim; the payload is empty."""
JOB_ENDED = "job_ended"
"""Channel: a job was ended from outside (cancelled, past its deadline); the payload is its id."""

_GATHER_S = 0.005
# Notices are gathered once sends follow each other faster than this, s, for so many times.
_QUIET_S = 0.002
_BURST = 8
_MAX_PENDING = 10_000
_RETRY_S = 1.0
# One is said plainly, for that is planned in no time; of many the values travel as one. Neither waits for the disk: a
# commit that wrote nothing but notices is not flushed (RecordTransactionCommit in Postgres' xact.c).
_SEND_ONE = b"NOTIFY %b, %b"
_SEND_ALL = "SELECT pg_notify(n ->> 0, n ->> 1) FROM json_array_elements(%s::json) AS n"


def channel_of(channel: str, schema: str) -> str:
    """Return what a channel is called for the tables of a schema: channels are the database's, and several schemas may
    share one. Postgres takes 63 bytes."""
    return channel if schema == DEFAULT_SCHEMA else f"{channel}_{schema}"[:63]


class Waker(Protocol):
    """Something that can be set, such as an Event."""

    def set(self) -> None:
        """Wake whoever waits."""


class Notifier:
    """Sends notices from a thread of its own; `notify` never waits and never fails.

    Under load repeats are merged; past a bound notices are dropped, for polling finds the work all the same.
    """

    def __init__(self, dsn: str, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._dsn = dsn
        self._schema = schema
        self._pending: dict[tuple[str, str], None] = {}
        self._mutex = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._conn: psycopg.Connection[object] | None = None

    def notify(self, channel: str, payload: str = "") -> None:
        """Tell listeners soon that something happened."""
        self.notify_each(channel, (payload,))

    def notify_each(self, channel: str, payloads: Iterable[str]) -> None:
        """The same for several payloads."""
        with self._mutex:
            if self._closing.is_set():
                return
            if len(self._pending) < _MAX_PENDING:
                self._pending.update(dict.fromkeys((channel, payload) for payload in payloads))
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
        closing, at_once, sent_at = False, float(_BURST), time.monotonic()
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
            now = time.monotonic()
            at_once, sent_at = min(float(_BURST), at_once - 1 + (now - sent_at) / _QUIET_S), now
            if at_once < 1:
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
            notices = [(channel_of(channel, self._schema), payload) for channel, payload in batch]
            if len(notices) == 1:
                _say(self._conn, *notices[0])
            else:
                self._conn.execute(_SEND_ALL, (orjson.dumps(notices).decode(),))
        except psycopg.Error as error:
            log.warning("cannot notify", extra={"action": "notify_failed", "error": type(error).__name__})
            if self._conn is not None:
                self._conn.close()
                self._conn = None
            return False
        return True


def _say(conn: psycopg.Connection[object], channel: str, payload: str) -> None:
    """Send one notice, past all that a statement with parameters and rows needs: somebody idle waits for it."""
    pgconn = conn.pgconn
    quote = Escaping(pgconn)
    sent = pgconn.exec_(_SEND_ONE % (quote.escape_identifier(channel.encode()), quote.escape_literal(payload.encode())))
    if sent.status != ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(sent)


class Listener:
    """Hears notices, sets the events of those who asked and calls the handlers of those who want the payload.

    One connection a process, opened for the first subscriber, on which only channels that somebody asked for are
    listened to. Whenever it was lost everybody is told, because notices may have been missed.
    """

    def __init__(self, dsn: str, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._dsn = dsn
        self._schema = schema
        self._named: dict[str, str] = {}
        self._waiting: dict[tuple[str, str], set[Waker]] = defaultdict(set)
        self._handlers: dict[str, list[Callable[[str], None]]] = defaultdict(list)
        self._channels: set[str] = set()
        self._mutex = threading.Lock()
        self._closed = False
        self._session: Session | None = None
        self._heard_on: set[str] = set()

    def hears(self, channel: str) -> bool:
        """Whether notices on this channel reach us now."""
        return channel in self._heard_on

    @contextmanager
    def subscribe(self, channel: str, payload: str) -> Iterator[threading.Event]:
        """Yield an event that is set whenever a notice with this payload arrives on this channel."""
        event = threading.Event()
        self.add(channel, payload, event)
        try:
            yield event
        finally:
            self.discard(channel, payload, event)

    def add(self, channel: str, payload: str, event: Waker) -> None:
        """Set `event` at every such notice until `discard`."""
        with self._mutex:
            self._waiting[(channel, payload)].add(event)
            self._ask(channel)

    def discard(self, channel: str, payload: str, event: Waker) -> None:
        """Undo `add`."""
        with self._mutex:
            waiting = self._waiting.get((channel, payload))
            if waiting is not None:
                waiting.discard(event)
                if not waiting:
                    del self._waiting[(channel, payload)]

    def hear(self, channel: str, handler: Callable[[str], None]) -> None:
        """Call `handler`, on our thread, with every notice's payload, and with "" when some may have been missed."""
        with self._mutex:
            self._handlers[channel].append(handler)
            self._ask(channel)

    def unhear(self, channel: str, handler: Callable[[str], None]) -> None:
        """Undo `hear`."""
        with self._mutex, contextlib.suppress(ValueError):
            self._handlers[channel].remove(handler)

    def close(self) -> None:
        """Stop listening and wake everybody a last time."""
        with self._mutex:
            self._closed = True
            session = self._session
        if session is not None:
            session.close()
        self._tell(self._channels)

    def _ask(self, channel: str) -> None:
        """Have the session listen to a channel; called under the lock."""
        if channel in self._channels or self._closed:
            return
        self._channels.add(channel)
        if self._session is None:
            self._session = Session(
                self._dsn, name="llm-mcp-listen", begin=self._begin, heard=self._hear, lost=self._lost
            )
            self._session.start()
        else:
            self._session.call(lambda conn: self._listen(conn, [channel]))

    def _begin(self, conn: Connection) -> None:
        with self._mutex:
            channels = sorted(self._channels)
        self._listen(conn, channels)

    def _listen(self, conn: Connection, channels: list[str]) -> None:
        for channel in channels:
            name = channel_of(channel, self._schema)
            self._named[name] = channel
            conn.execute(f'LISTEN "{name}"')  # both parts are plain identifiers
        self._heard_on.update(channels)
        self._tell(channels)

    def _lost(self, _why: Exception | None) -> None:
        self._heard_on.clear()
        self._tell(self._channels)

    def _hear(self, notice: psycopg.Notify) -> None:
        channel = self._named[notice.channel]
        with self._mutex:
            events = list(self._waiting.get((channel, notice.payload), ()))
            handlers = list(self._handlers.get(channel, ()))
        for event in events:
            event.set()
        for handler in handlers:
            handler(notice.payload)

    def _tell(self, channels: Collection[str]) -> None:
        """Wake whoever waits on these channels: a notice may have been missed."""
        with self._mutex:
            events = {
                event for (channel, _), waiting in self._waiting.items() if channel in channels for event in waiting
            }
            handlers = [handler for channel in channels for handler in self._handlers.get(channel, ())]
        for event in events:
            event.set()
        for handler in handlers:
            handler("")
