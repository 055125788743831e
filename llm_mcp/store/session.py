"""One session that is kept: opened again whenever it is lost, with what has to be said at its beginning."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from collections.abc import Callable

import psycopg
from psycopg.conninfo import conninfo_to_dict

from .pool import Connection, conninfo

log = logging.getLogger(__name__)

_AGAIN_S = 0.25
_CLOSE_S = 3.0
# How often a quiet session looks whether its server still is the one that takes writes, s.
_LOOK_S = 1.0


class Session:
    """A connection of its own and the one thread that uses it, between `start` and `close`.

    Parameters: `dsn`, which must reach Postgres itself, not a pooler; `name`, of the thread; `begin`, called with every
    new connection; `heard`, called with each notice; `lost`, called with what happened whenever the connection is gone
    or could not be made. All are called on the session's thread.
    """

    def __init__(
        self,
        dsn: str,
        *,
        name: str,
        begin: Callable[[Connection], None],
        heard: Callable[[psycopg.Notify], None] = lambda _: None,
        lost: Callable[[Exception | None], None] = lambda _: None,
    ) -> None:
        self._dsn = dsn
        self._begin = begin
        self._heard = heard
        self._lost = lost
        self._closing = threading.Event()
        self._calls: list[Callable[[Connection], None]] = []
        self._mutex = threading.Lock()
        self._bell, self._ring = socket.socketpair()
        self._ring.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Open the session, now and whenever it is lost."""
        self._thread.start()

    def call(self, action: Callable[[Connection], None]) -> None:
        """Have `action` called soon with the connection there is; a later one begins with `begin` only."""
        with self._mutex:
            self._calls.append(action)
        self._wake()

    def close(self) -> None:
        """End the session."""
        self._closing.set()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(timeout=_CLOSE_S)
        if not self._thread.is_alive():
            self._bell.close()
            self._ring.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it rings already, or is closed
            self._ring.send(b"\0")

    def _run(self) -> None:
        while not self._closing.is_set():
            why: Exception | None = None
            try:
                with psycopg.connect(conninfo(self._dsn), autocommit=True, prepare_threshold=None) as conn:
                    with self._mutex:
                        self._calls.clear()
                    self._begin(conn)
                    self._serve(conn)
            except (psycopg.Error, OSError) as error:
                why = error
                log.warning("a session was lost", extra={"action": "session_lost", "error": type(error).__name__})
            except Exception as error:
                why = error
                # Whoever waits for notices, or is held for dead without this session, needs the next one.
                log.exception("a session was lost", extra={"action": "session_lost"})
            self._lost(why)
            self._closing.wait(_AGAIN_S)

    def _serve(self, conn: Connection) -> None:
        look_s = _LOOK_S if _wants_writes(self._dsn) else None
        # Not `select.select`, which takes no descriptor over 1023: a process with as many streams has them.
        with selectors.DefaultSelector() as selector:
            selector.register(conn.fileno(), selectors.EVENT_READ)
            bell = selector.register(self._bell, selectors.EVENT_READ)
            while not self._closing.is_set():
                for notice in conn.notifies(timeout=0):
                    self._heard(notice)
                with self._mutex:
                    calls, self._calls = self._calls, []
                for action in calls:
                    action(conn)
                if calls:
                    continue  # a notice may have come with an answer
                ready = selector.select(look_s)
                if any(key is bell for key, _ in ready):
                    self._bell.recv(4096)
                elif not ready and conn.execute("SHOW transaction_read_only").fetchone() == ("on",):
                    return  # another server is the one by now


def _wants_writes(dsn: str) -> bool:
    """Return whether a DSN asks for the one server of several that takes writes."""
    return conninfo_to_dict(dsn).get("target_session_attrs") in ("read-write", "primary")
