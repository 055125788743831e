"""A TCP proxy before the door that cuts every connection after so many bytes of its answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_ABORT = b"\1\0\0\0\0\0\0\0"


class Cutting:
    """Made by `cutting`; `address` is where clients connect, `cuts` counts the connections that were cut."""

    def __init__(self, target: tuple[str, int], budget: Callable[[], int]) -> None:
        self._target = target
        self._budget = budget
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listening.getsockname()
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client, self._budget()), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket, left: int) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data[:left])
                left -= len(data)
                if left <= 0:
                    self.cuts += 1
                    if left % 2:  # some ends are clean, some are not
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                    break
        for side in (server, client):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()


@contextmanager
def cutting(target: tuple[str, int], budget: Callable[[], int]) -> Iterator[Cutting]:
    """Give a proxy before `target`; `budget` says after how many bytes the next connection is cut."""
    made = Cutting(target, budget)
    try:
        yield made
    finally:
        made.close()
