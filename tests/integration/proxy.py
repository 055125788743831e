"""A TCP proxy before Postgres that can refuse, cut, and lose a reply after the server did what was asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Proxy:
    """A context manager: `dsn` leads to the same database by way of the proxy, until the block ends."""

    def __init__(self, dsn: str) -> None:
        parts = conninfo_to_dict(dsn)
        self._target = (str(parts["host"]), int(str(parts["port"])))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=self._listening.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._mutex = threading.RLock()  # who refuses cuts too
        self._refusing = False
        self._losing = False
        self.lost = threading.Event()
        """Set when a reply was lost."""

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection there is."""
        with self._mutex:
            for side in self._open:
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def refuse(self) -> None:
        """Break every connection and let no new one through."""
        with self._mutex:
            self._refusing = True
            self.cut()

    def restore(self) -> None:
        """Let connections through again."""
        self._refusing = False

    def lose_a_reply(self) -> None:
        """Let the next request through and swallow its answer; then refuse."""
        self.lost.clear()
        self._losing = True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            asked = threading.Event()
            with self._mutex:
                if self._refusing:
                    client.close()
                    server.close()
                    continue
                self._open |= {client, server}
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, sink, asked, answers), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, asked: threading.Event, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._losing and not answers:
                    asked.set()
                if self._losing and answers and asked.is_set():
                    self._losing = False
                    self.refuse()
                    self.lost.set()
                    break
                sink.sendall(data)
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
        with self._mutex:
            self._open.discard(source)
        source.close()
