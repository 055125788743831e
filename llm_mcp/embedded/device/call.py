"""One request being served, and the watch that notices when its client goes away."""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import threading
from collections.abc import Callable, Iterator


class Cancelled(Exception):
    """The client went away, or the device is ending: nobody waits for the answer any more."""


class Call:
    """One request in work. Its own thread works on it; `cancel` may come from any other."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._cancelled = False
        self._acts: dict[int, Callable[[], None]] = {}
        self._names = itertools.count()

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._cancelled

    def cancel(self) -> None:
        """Give the call up and break whatever it is waiting on."""
        with self._mutex:
            self._cancelled = True
            for act in self._acts.values():
                act()

    def check(self) -> None:
        """Raise Cancelled when the call was given up."""
        if self._cancelled:
            raise Cancelled

    @contextlib.contextmanager
    def breaking(self, act: Callable[[], None]) -> Iterator[None]:
        """While the block runs, have `cancel` run `act`, which wakes or cuts what the block waits on.

        `act` must be quick and must not touch this call. It never runs after the block has ended.
        Raises Cancelled at the start when the call was given up before.
        """
        with self._mutex:
            self.check()
            name = next(self._names)
            self._acts[name] = act
        try:
            yield
        finally:
            with self._mutex:
                del self._acts[name]


class Watch:
    """The thread that watches the clients of all running calls, and cancels the call of one that hangs up.

    Owns nothing but its thread: sockets belong to their handlers, which leave them alone while watched.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._mutex = threading.Lock()
        self._calls: set[Call] = set()
        self._ending = False
        self._ear, self._mouth = socket.socketpair()
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._loop, name="client watch", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def over(self, client: socket.socket, call: Call) -> Iterator[None]:
        """Watch the client while the block runs. Raises Cancelled at the start when the device is ending."""
        with self._mutex:
            if self._ending:
                raise Cancelled
            self._calls.add(call)
            self._selector.register(client, selectors.EVENT_READ, call)
        try:
            yield
        finally:
            with self._mutex:
                self._calls.discard(call)
                self._forget(client)

    def close(self) -> None:
        """Cancel every call and end the thread."""
        with self._mutex:
            self._ending = True
            calls = list(self._calls)
        for call in calls:
            call.cancel()
        self._mouth.send(b"x")
        self._thread.join()
        self._selector.close()
        self._ear.close()
        self._mouth.close()

    def _loop(self) -> None:
        while not self._ending:
            for key, _ in self._selector.select():
                if isinstance(key.data, Call) and isinstance(key.fileobj, socket.socket):
                    self._look(key.fileobj, key.data)

    def _look(self, client: socket.socket, call: Call) -> None:
        with self._mutex:
            if call not in self._calls:
                return
            try:
                gone = client.recv(1, socket.MSG_PEEK) == b""
            except OSError:
                gone = True
            # Either it is gone, or it already sent its next request and cannot be watched this way any longer.
            self._forget(client)
        if gone:
            call.cancel()

    def _forget(self, client: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client)
