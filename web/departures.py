"""Clients that leave: one thread waits for all of them to hang up, so that each is noticed at once, none polled."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

# Where the kernel cannot be waited for, how often each client is looked at, s.
_LOOK_S = 0.5
_HAS_EPOLL = hasattr(select, "epoll")


class Departures:
    """Tells whoever asked that a client left. Its thread begins with the first client. Safe for threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._watched: dict[int, tuple[socket.socket, Callable[[], None]]] = {}
        self._thread: threading.Thread | None = None
        self._epoll = select.epoll() if _HAS_EPOLL else None

    def add(self, client: socket.socket, tell: Callable[[], None]) -> int:
        """Have `tell` called, once and from our thread, when the client closes its side, be it one half of it only.

        Returns a number for `remove`, which has to be called before the socket is closed.
        """
        number = client.fileno()
        with self._mutex:
            self._watched[number] = (client, tell)
            if self._epoll is not None:
                try:
                    self._epoll.register(number, select.EPOLLRDHUP | select.EPOLLONESHOT)
                except (OSError, ValueError):  # closed already
                    tell()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="llm-mcp-departures", daemon=True)
                self._thread.start()
        return number

    def remove(self, number: int) -> None:
        """Undo `add`."""
        with self._mutex:
            self._watched.pop(number, None)
            if self._epoll is not None:
                with suppress(OSError, ValueError):
                    self._epoll.unregister(number)

    def _run(self) -> None:
        while True:
            for number in self._left():
                with self._mutex:
                    found = self._watched.get(number)
                # The number may be another client's by now.
                if found is not None and _has_left(found[0]):
                    found[1]()

    def _left(self) -> list[int]:
        if self._epoll is not None:
            return [number for number, _ in self._epoll.poll()]
        time.sleep(_LOOK_S)
        with self._mutex:
            watched = [(number, client) for number, (client, _) in self._watched.items()]
        return [number for number, client in watched if _has_left(client)]


def _has_left(client: socket.socket) -> bool:
    if _HAS_EPOLL:
        poll = select.poll()
        try:
            poll.register(client, select.POLLRDHUP)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            return True
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
