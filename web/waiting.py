"""The connections nobody works for: idle ones, those whose request is still coming, those that were answered last.

The process's main thread watches them all, so a client that is slow costs a place here and never a thread. Each has a
deadline, and a request that goes on arriving moves its own.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.workers.gthread import TConn  # type: ignore[import-untyped] # gunicorn ships no types

from . import refusals, request_id
from .incoming import Incoming
from .refusals import Refusal

HEAD_S = 8.0
"""How long a request's head may take, s."""
STEP_S, STEP_BYTES = 8.0, 8192
"""A body that is not whole has to bring so many bytes in so many seconds."""
_LINGER_S, _LINGER_MOST_S, _LINGER_BYTES = 2.0, 10.0, 64 * 2**20
# Nobody is turned away for another's sake before this, s.
_SPARED_S = 1.0
_PIECE_BYTES = 2**16
_LOOK_S = 0.25


class Connection(TConn):  # type: ignore[misc] # gunicorn ships no types
    """A client's connection: what came in of its next request, and until when it may wait."""

    def __init__(self, *of_gunicorn: Any, incoming: Incoming) -> None:
        super().__init__(*of_gunicorn)
        self.initialized = True  # there is no parser before there is a request
        self.incoming = incoming
        self.held = self.mark = 0
        self.since = self.until = 0.0
        self.lingering = False
        self.let_go = 0
        self.late = False


class Waiting:
    """Watches connections and hands over those whose request is whole. For the main thread only.

    Parameters: `poller`, which calls what is registered with it; `limit_bytes`, the largest body; `keep_s`, how long
    one may be idle between requests; `hand_over`, called with a connection that is not ours any more; `on_close`,
    called when one is closed.
    """

    def __init__(
        self,
        poller: selectors.BaseSelector,
        *,
        limit_bytes: int,
        keep_s: float,
        hand_over: Callable[[Connection], None],
        on_close: Callable[[], None],
    ) -> None:
        self._poller = poller
        self._limit = limit_bytes
        # Sixteen of the largest at once; small ones never come near.
        self._room = 16 * limit_bytes
        self._keep_s = keep_s
        self._hand_over = hand_over
        self._on_close = on_close
        self._connections: dict[Connection, None] = {}
        self._looked_at = 0.0
        self._stop_at = float("inf")
        self.lingering = 0
        """How many of them were answered last, and take no place any more."""

    def meet(self, cfg: Any, client: socket.socket, address: Any, server: Any) -> Connection:
        """Return a new connection, which is nobody's yet; the parameters are those of gunicorn's own."""
        return Connection(cfg, client, address, server, incoming=Incoming(limit_bytes=self._limit))

    def welcome(self, conn: Connection) -> None:
        """Take a new one."""
        self._watch(conn, HEAD_S)
        self._read(conn, conn.sock)  # mostly the request is there already

    def keep(self, conn: Connection) -> None:
        """Take one back that was answered and may ask again."""
        self._forget_size(conn)
        conn.incoming = Incoming(
            limit_bytes=self._limit, begun=conn.parser.unreader.take_buffered() + conn.incoming.rest()
        )
        conn.sock.setblocking(False)
        self._watch(conn, HEAD_S if conn.incoming.begun else self._keep_s)
        self._decide(conn)

    def linger(self, conn: Connection) -> None:
        """Take one whose last answer was sent: it may hang up. Closed at once, it might never see that answer."""
        self._forget_size(conn)
        conn.incoming, conn.parser = Incoming(limit_bytes=self._limit), None
        conn.lingering = True
        self.lingering += 1
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
        else:
            self._watch(conn, _LINGER_S)

    def refuse(self, conn: Connection, refusal: Refusal) -> None:
        """Tell one why nothing comes of its request, and take it to hang up."""
        self._tell(conn, refusal)
        self._leave(conn)
        self.linger(conn)

    def make_room(self) -> bool:
        """Part with the one that does least: an idle one, else the longest sender. Return whether there was one."""
        now, slowest = time.monotonic(), None
        for conn in self._connections:
            if conn.lingering or now - conn.since < _SPARED_S:
                continue
            if not conn.incoming.begun:
                self._drop(conn)
                return True
            if slowest is None or conn.since < slowest.since:
                slowest = conn
        if slowest is not None:
            self.refuse(slowest, refusals.FULL)
        return slowest is not None

    def look(self, *, all_of_them: bool = False) -> None:
        """Part with those whose time is over, or with all."""
        now = time.monotonic()
        if not all_of_them and now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        for conn in list(self._connections):
            if all_of_them or conn.lingering or not conn.incoming.begun:
                if all_of_them or now >= min(conn.until, self._stop_at):
                    self._drop(conn)
            elif now >= conn.until:
                self.refuse(conn, refusals.TOO_SLOW)

    def stop(self, at: float) -> None:
        """Keep no idle connection past `at` (monotonic, s)."""
        self._stop_at = at

    def _watch(self, conn: Connection, patience_s: float) -> None:
        conn.since = time.monotonic()
        conn.until = conn.since + patience_s
        self._connections[conn] = None
        self._poller.register(conn.sock, selectors.EVENT_READ, partial(self._read, conn))

    def _leave(self, conn: Connection) -> None:
        if conn in self._connections:
            del self._connections[conn]
            with suppress(OSError, KeyError, ValueError):
                self._poller.unregister(conn.sock)

    def _read(self, conn: Connection, client: socket.socket) -> None:
        try:
            data = client.recv(_PIECE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._drop(conn)
            return
        if conn.lingering:
            self._let_go(conn, len(data))
        elif data:
            self._take(conn, data)
        elif conn.incoming.begun:
            self.refuse(conn, refusals.BROKE_OFF)
        else:
            self._drop(conn)

    def _take(self, conn: Connection, data: bytes) -> None:
        now, incoming = time.monotonic(), conn.incoming
        if not incoming.begun:
            conn.since, conn.until = now, now + HEAD_S
        in_body = incoming.in_body
        incoming.feed(data)
        if incoming.in_body and (not in_body or incoming.size - conn.mark >= STEP_BYTES):
            conn.mark, conn.until = incoming.size, now + STEP_S
        self._decide(conn)

    def _decide(self, conn: Connection) -> None:
        incoming = conn.incoming
        self._room -= incoming.size - conn.held
        conn.held = incoming.size
        if incoming.refusal is not None:
            self.refuse(conn, incoming.refusal)
        elif incoming.ready:
            self._leave(conn)
            self._hand_over(conn)
        elif self._room < 0:
            self.refuse(conn, refusals.NO_ROOM)
        elif incoming.continues:
            incoming.continues = False
            with suppress(OSError):
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _let_go(self, conn: Connection, count: int) -> None:
        conn.let_go += count
        if count == 0 or conn.let_go > _LINGER_BYTES:
            self._drop(conn)
        else:
            conn.until = min(time.monotonic() + _LINGER_S, conn.since + _LINGER_MOST_S)

    def _tell(self, conn: Connection, refusal: Refusal) -> None:
        head = conn.incoming.head
        with suppress(OSError):  # it went away, or does not read
            conn.sock.send(refusals.answer(refusal, name=request_id.of_head(head), head=head))

    def _forget_size(self, conn: Connection) -> None:
        self._room += conn.held
        conn.held = conn.mark = 0

    def _drop(self, conn: Connection) -> None:
        self._leave(conn)
        self._close(conn)

    def _close(self, conn: Connection) -> None:
        self._forget_size(conn)
        self.lingering -= conn.lingering
        conn.close()
        self._on_close()
