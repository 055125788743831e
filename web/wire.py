"""What the WebSocket library works with here: a connection two threads may write to, an event that rings, its thread.

The library has one thread that reads each socket, while the request's own thread writes. Left to itself it writes from
both, keeps as many messages as may come, and closes a socket that gunicorn closes later.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

_MAX_UNREAD = 16


class Wire:
    """A client's connection. Frames are written whole; nothing is read while too much is unread already.

    `header`: a line that the answer to the handshake, which is written first, gets as well.
    """

    def __init__(self, connection: socket.socket, header: str) -> None:
        self._connection = connection
        self._header = header
        self._writing = threading.Lock()
        self.unread: list[object] = []
        """The library's buffer of messages nobody has looked at yet."""

    def fileno(self) -> int:
        """Return the socket's number, to be waited at."""
        return self._connection.fileno()

    def send(self, data: bytes) -> int:
        """Write all of it. Raises OSError."""
        with self._writing:
            self._connection.sendall(self._answer(data) if self._header else data)
        return len(data)

    def _answer(self, data: bytes) -> bytes:
        """Return the answer to the handshake with our header after its first line."""
        header, self._header = self._header.encode("latin-1"), ""
        return data.replace(b"\r\n", b"\r\n%s\r\n" % header, 1)

    def recv(self, most: int) -> bytes:
        """Return what came. Raises OSError, also when the client talks more than it is listened to."""
        if len(self.unread) > _MAX_UNREAD:
            raise OSError("too many messages")
        return self._connection.recv(most)

    def close(self) -> None:
        """The library is done with it; who opened it closes it."""

    def end(self) -> None:
        """Have the library's thread end, should it still wait for the client."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RD)


class Bell(threading.Event):
    """The library's event, set when a message came or the connection ended; who waits elsewhere hears it too."""

    def __init__(self) -> None:
        super().__init__()
        self.ring: Callable[[], None] | None = None

    def set(self) -> None:
        super().set()
        if self.ring is not None:
            self.ring()


class Reader(threading.Thread):
    """The library's thread that reads. No process waits for it."""

    def __init__(self, target: Callable[[], None]) -> None:
        super().__init__(target=target, daemon=True)
