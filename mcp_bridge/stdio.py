"""Standard input and output as the lines of one client, read and written in the event loop where that never waits.

A thread for each line that is read, and two for each that is written, cost more than what most calls do. A long answer,
or one that its reader has no room for, is written by a thread.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import signal
import socket
import stat
from collections.abc import AsyncIterator
from types import FrameType, TracebackType

import anyio.lowlevel
import anyio.to_thread

STOP = (signal.SIGTERM, signal.SIGINT)
_CHUNK_BYTES = 2**16
# Once there is no more to read we end within so long, whatever hangs: an answer nobody takes, above all, s.
_HARD_END_S = 5


class Lines:
    """What the client writes: it ends when the client closes it, and when SIGTERM or SIGINT comes.

    To be entered once, in the main thread, by a process that then ends; iterated over in its event loop. A second
    signal ends the process at once.
    """

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd

    def __enter__(self) -> Lines:
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        # A byte on a socket ends the wait, whichever thread the signal came to; then the main one runs its handler.
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
        self._waker.close()
        self._woken.close()

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield each line, without its end; one that was cut off is none."""
        kept = bytearray()
        while chunk := await self._read():
            kept += chunk
            if b"\n" in chunk:
                *lines, kept = kept.split(b"\n")
                for line in lines:
                    yield line.decode("utf-8", "replace")
            else:
                await anyio.lowlevel.checkpoint()  # a long line holds up nobody
        signal.alarm(_HARD_END_S)

    async def _read(self) -> bytes:
        """Return what there is to read, as soon as there is something; nothing at the end."""
        woken = self._woken.fileno()
        while True:
            try:
                # Asked first: a file is ready always, and an event loop cannot wait for it.
                ready, _, _ = select.select([self._fd, woken], [], [], 0)
                if ready:
                    return b"" if woken in ready else os.read(self._fd, _CHUNK_BYTES)
            except BlockingIOError:  # another had it
                pass
            except OSError:  # it was never open, or its other side was cut off
                return b""
            await _readable(self._fd, woken)


class Answers:
    """What the client reads, from one writer at a time.

    Takes standard output for the rest of this process: what is printed otherwise goes to standard error.
    """

    def __init__(self) -> None:
        self._fd = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
        mode = os.fstat(self._fd).st_mode
        self._says_room = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        os.dup2(2, 1)

    async def write(self, text: str) -> None:
        """Write a text: at once where there is room for it, else as the client makes some. Raises BrokenPipeError."""
        left = memoryview(text.encode())
        # So much never has to wait where there is said to be room.
        if len(left) <= select.PIPE_BUF and self._says_room and select.select([], [self._fd], [], 0)[1]:
            left = self._written(left)
        if left:
            await anyio.to_thread.run_sync(self._write, left)

    async def flush(self) -> None:
        """Nothing is held back."""

    def _write(self, left: memoryview) -> None:
        while left:
            select.select([], [self._fd], [])
            left = self._written(left)

    def _written(self, left: memoryview) -> memoryview:
        """Write some and return what is still to be written."""
        try:
            return left[os.write(self._fd, left) :]
        except BlockingIOError:  # who gave us the stream has it wait for nobody
            return left


async def _readable(*fds: int) -> None:
    """Wait until there is something to read at one of them."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    try:
        for fd in fds:
            loop.add_reader(fd, there.set)
        await there.wait()
    finally:
        for fd in fds:
            loop.remove_reader(fd)


def _stop(_number: int, _frame: FrameType | None) -> None:
    for number in STOP:
        signal.signal(number, signal.SIG_DFL)
    signal.alarm(_HARD_END_S)
