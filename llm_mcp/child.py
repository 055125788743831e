"""A process we start and answer for: it gets a session of its own, says when it is ready, and dies when we do."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_MAX_LINE = 4096


def follow_owner(signum: int) -> Callable[[], None] | None:
    """Return what a child runs before exec so that the kernel sends it `signum` when its owner dies, even by kill -9.

    Linux only (prctl(2), PR_SET_PDEATHSIG); None elsewhere. The owner is the *thread* that starts the child, so
    children are started by main threads.
    """
    if _libc is None:
        return None
    libc, owner = _libc, os.getpid()

    def before_exec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signum)
        if os.getppid() != owner:  # it died before we asked
            os.kill(os.getpid(), signum)

    return before_exec


class Child:
    """One child process by its name. `start` again after it ended starts it anew.

    Parameters: `argv`; `environment`, all of it; `pass_fds`, sockets it inherits; `log`, where its standard error goes
    (None: where ours goes). It says `ready …` as one line on its standard output when it is.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        log: IO[bytes] | None = None,
    ) -> None:
        self.name = name
        self._argv = list(argv)
        self._environment = dict(environment)
        self._pass_fds = tuple(pass_fds)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._said = b""
        self.started_at = 0.0
        """Monotonic instant of the last start, s."""

    def start(self) -> None:
        """Start the process."""
        self._forget()
        self._said = b""
        self.started_at = time.monotonic()
        self._process = subprocess.Popen(
            self._argv,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            pass_fds=self._pass_fds,
            start_new_session=True,  # Ctrl-C is for the owner, who drains in the right order
            preexec_fn=follow_owner(signal.SIGTERM),  # noqa: PLW1509 - prctl must run in the child; it takes no lock
        )

    @property
    def pid(self) -> int | None:
        """Its process id, None while it does not run."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def ended(self) -> int | None:
        """Return the exit code of a process that ended, None while it runs or when it was never started."""
        return None if self._process is None else self._process.poll()

    def says_ready(self) -> bool:
        """Return whether it has said `ready …` since its start; does not wait."""
        pipe = None if self._process is None else self._process.stdout
        if pipe is not None and b"\n" not in self._said and select.select([pipe], [], [], 0)[0]:
            self._said += os.read(pipe.fileno(), _MAX_LINE)
        return self._said.startswith(b"ready") and b"\n" in self._said

    @property
    def line(self) -> str:
        """What followed `ready`, such as a URL; "" before it was said."""
        return self._said.partition(b"\n")[0].decode(errors="replace").partition(" ")[2]

    def signal(self, number: int) -> None:
        """Send it a signal, when it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end, `timeout_s` seconds at most; say whether it ended."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout=max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End it at once and take its exit code."""
        self.signal(signal.SIGKILL)
        self.wait(5.0)
        self._forget()

    def _forget(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
