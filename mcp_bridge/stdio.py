"""Standard input as the lines of one client: they end when it closes them, and when SIGTERM or SIGINT comes."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import AsyncIterator
from types import FrameType, TracebackType

import anyio.to_thread

STOP = (signal.SIGTERM, signal.SIGINT)
_CHUNK_BYTES = 2**16
# Once there is no more to read we end within so long, whatever hangs: an answer nobody takes, above all, s.
_HARD_END_S = 5


class Lines:
    """To be entered once, in the main thread, by a process that then ends; iterated over in its event loop.

    A second signal ends the process at once. The loop is not asked to end it: the read itself, in a thread, waits for a
    signal too, so that no thread is left in a read that nobody can interrupt.
    """

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd

    def __enter__(self) -> Lines:
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        # A byte on a socket ends the read, whichever thread the signal came to; then the main one runs its handler.
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for number in STOP:
            signal.signal(number, _stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number in STOP:
            signal.signal(number, signal.SIG_DFL)
        self._waker.close()  # a thread that still reads wakes

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield each line, without its end; one that was cut off is none."""
        kept = bytearray()
        while chunk := await anyio.to_thread.run_sync(self._read, abandon_on_cancel=True):
            kept += chunk
            if b"\n" in chunk:
                *lines, kept = kept.split(b"\n")
                for line in lines:
                    yield line.decode("utf-8", "replace")
        signal.alarm(_HARD_END_S)

    def _read(self) -> bytes:
        """Return what there is to read, as soon as there is something; nothing at the end."""
        while True:
            try:
                ready, _, _ = select.select([self._fd, self._woken.fileno()], [], [])
                return b"" if self._woken.fileno() in ready else os.read(self._fd, _CHUNK_BYTES)
            except BlockingIOError:  # another had it
                continue
            except OSError:  # it was never open, or its other side was cut off
                return b""


def _stop(_number: int, _frame: FrameType | None) -> None:
    for number in STOP:
        signal.signal(number, signal.SIG_DFL)
    signal.alarm(_HARD_END_S)
