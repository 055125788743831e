"""A peer that says exactly what a test wrote down, over a real socket on 127.0.0.1."""

from __future__ import annotations

import json
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    """A request as it came in: its head (names in lower case) and its body."""

    head: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Line:
    """One connection, as the thing that answers sees it."""

    def __init__(self, connection: socket.socket, peer: Peer) -> None:
        self._connection = connection
        self.peer = peer
        self.open = True

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def close(self) -> None:
        self.open = False

    def hold(self) -> None:
        """Say nothing more until the client hangs up (which the peer then knows) or the peer is stopped."""
        while not self.peer.stopping.is_set():
            readable, _, _ = select.select([self._connection], [], [], 0.02)
            if readable and not self._connection.recv(1):
                raise ConnectionResetError


Say = Callable[[Line], None]


class Peer:
    """A server on a free port that gives its answers one after another, the last one for all further requests."""

    def __init__(self, *answers: Say, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.sent = 0
        self.hung_up = threading.Event()
        self.stopping = threading.Event()
        self._answers = list(answers)
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._converse(connection)
            except OSError:
                self.hung_up.set()

    def _converse(self, connection: socket.socket) -> None:
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True)
        with connection:
            line = Line(connection, self)
            while line.open:
                self.requests.append(_read(connection))
                answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                answer(line)


def _read(connection: socket.socket) -> Request:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ConnectionResetError
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    text = "\n".join(
        line if index == 0 else line.partition(":")[0].lower() + ":" + line.partition(":")[2]
        for index, line in enumerate(head.decode().split("\r\n"))
    )
    length = next((int(line[16:]) for line in text.split("\n") if line.startswith("content-length: ")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return Request(text, body)


# — answers —


def answer(status: int, body: Any = b"", **headers: str) -> Say:
    """Answer with a status and a body (bytes as they are, text, or anything else as JSON); then wait for the next."""
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    kind = (
        {}
        if isinstance(body, bytes)
        else {"content-type": "text/plain" if isinstance(body, str) else "application/json"}
    )
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    head = _head(status, {**kind, **named, "content-length": str(len(data))})

    def say(line: Line) -> None:
        line.send(head + data)

    return say


def stream(*pieces: bytes | Say, kind: str = "application/x-ndjson", end: bool = True) -> Say:
    """Answer 200 and a chunked body: bytes are sent as they are, functions called; without `end` it breaks off."""

    def say(line: Line) -> None:
        line.send(_head(200, {"content-type": kind, "transfer-encoding": "chunked"}))
        for piece in pieces:
            if callable(piece):
                piece(line)
            elif line.open:
                line.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        if end and line.open:
            line.send(b"0\r\n\r\n")
        elif line.open:
            line.close()

    return say


def sse(*events: Any, done: bool = True, end: bool = True) -> Say:
    """Answer with server-sent events: bytes as they are, anything else as one JSON event; then `[DONE]`."""
    pieces = [item if isinstance(item, bytes) else b"data: " + json.dumps(item).encode() + b"\n\n" for item in events]
    return stream(*pieces, *([b"data: [DONE]\n\n"] if done else []), kind="text/event-stream", end=end)


def ndjson(*lines: Any, end: bool = True) -> Say:
    """Answer with one JSON object a line; bytes as they are."""
    return stream(*(item if isinstance(item, bytes) else json.dumps(item).encode() + b"\n" for item in lines), end=end)


def hold(line: Line) -> None:
    """Answer nothing, until the client hangs up."""
    line.hold()


def hang_up(line: Line) -> None:
    """Close without an answer."""
    line.close()


def drip(data: bytes, every_s: float) -> Say:
    """Send one byte at a time."""

    def say(line: Line) -> None:
        for byte in data:
            line.send(bytes([byte]))
            if line.peer.stopping.wait(every_s):
                return

    return say


def endless(head: bytes, chunk: bytes, *, at_most: int) -> Say:
    """Send `head` and then `chunk` again and again, `at_most` bytes; the peer counts what it could send."""

    def say(line: Line) -> None:
        line.send(head)
        for _ in range(at_most // len(chunk)):
            line.send(chunk)
            line.peer.sent += len(chunk)
        line.close()

    return say


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Because", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def bytes_of(objects: Iterable[Any]) -> bytes:
    """Return objects as lines of JSON."""
    return b"".join(json.dumps(item).encode() + b"\n" for item in objects)
