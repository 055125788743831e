"""Clients that are slow on purpose, many at once, in one thread."""

from __future__ import annotations

import errno
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

_HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
_DRIP_S = 1.0

SORTS: dict[str, tuple[bytes, bytes]] = {
    "says nothing": (b"", b""),
    "half a head": (b"GET /health HTTP/1.1\r\nHost: loc", b""),
    "half a body": (_HEAD + b'Content-Length: 100\r\n\r\n{"kind"', b""),
    "a head that drips": (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: ", b"a"),
    "a body that drips": (_HEAD + b"Content-Length: 100000\r\n\r\n{", b" "),
    "a chunked body that drips": (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n \r\n"),
    "a large body that stops": (_HEAD + b"Content-Length: 10000000\r\n\r\n{" + b" " * 50_000, b""),
}
"""What each sort sends at once, and what it adds every second."""


class Sloths:
    """So many clients of one sort; they go on until the server cuts them. A context manager.

    `began_at` is when they came (monotonic, s), `cut_s` how long each that is gone was served, s, and `told` what it
    had been told by then.
    """

    def __init__(self, host: str, port: int, sort: str, count: int) -> None:
        self._at_once, self._drip = SORTS[sort]
        self._count = count
        self._address = (host, port)
        self._selector = selectors.DefaultSelector()
        self._said: dict[socket.socket, bytes] = {}
        self._began: dict[socket.socket, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sloths")
        self.began_at = time.monotonic()
        self.cut_s: list[float] = []
        self.told: list[bytes] = []

    def __enter__(self) -> Sloths:
        for _ in range(self._count):
            client = socket.socket()
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(self._address)
            self._said[client] = b""
            self._began[client] = time.monotonic()
            self._selector.register(client, selectors.EVENT_WRITE)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for client in self._said:
            client.close()
        self._selector.close()

    @property
    def left(self) -> int:
        """How many are still being served."""
        return len(self._said)

    def _run(self) -> None:
        due = time.monotonic() + _DRIP_S
        while not self._stop.is_set():
            for key, events in self._selector.select(0.1):
                client = key.fileobj
                assert isinstance(client, socket.socket)
                if events & selectors.EVENT_WRITE:
                    self._selector.modify(client, selectors.EVENT_READ)
                    self._on(client, lambda client: client.sendall(self._at_once))
                elif events & selectors.EVENT_READ:
                    self._on(client, self._hear)
            if self._drip and time.monotonic() >= due:
                due = time.monotonic() + _DRIP_S
                for client in list(self._said):
                    self._on(client, lambda client: client.sendall(self._drip))

    def _hear(self, client: socket.socket) -> None:
        data = client.recv(65536)
        if not data:
            raise ConnectionResetError
        self._said[client] += data

    def _on(self, client: socket.socket, act: Callable[[socket.socket], None]) -> None:
        try:
            act(client)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                return
            self._selector.unregister(client)
            self.cut_s.append(time.monotonic() - self._began.pop(client))
            self.told.append(self._said.pop(client))
            client.close()
