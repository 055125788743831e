"""Signals as something the main thread waits for, instead of code that interrupts it anywhere."""

from __future__ import annotations

import select
import signal
import socket
from collections import deque
from types import TracebackType


class Signals:
    """While entered, the given signals do nothing but wake `wait`. For the main thread only.

    A handler that sets an Event may interrupt the very thread that holds the Event's lock; a byte on a socket cannot.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers
        self._before: dict[signal.Signals, object] = {}
        self._caught: deque[signal.Signals] = deque()

    def __enter__(self) -> Signals:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in self._numbers:
            self._before[number] = signal.signal(number, lambda *_: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal.signal itself returned
        signal.set_wakeup_fd(self._fd_before)
        self._reader.close()
        self._writer.close()

    def wait(self, timeout_s: float | None = None) -> signal.Signals | None:
        """Return the next signal, None when none came within `timeout_s` seconds (None: wait for ever)."""
        if not self._caught:
            self._hear(timeout_s)
        return self._caught.popleft() if self._caught else None

    def caught(self, *numbers: signal.Signals) -> bool:
        """Return whether one of these came and was not yet returned by `wait`; does not wait."""
        self._hear(0)
        return any(number in numbers for number in self._caught)

    def _hear(self, timeout_s: float | None) -> None:
        if select.select([self._reader], [], [], timeout_s)[0]:
            self._caught.extend(signal.Signals(number) for number in self._reader.recv(4096) if number in self._numbers)
