"""A process we start and answer for: it gets a session of its own, says when it is ready, and dies when we do."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_MAX_LINE = 4096
_OWNER_LOOK_S = 0.25
_ORPHAN_S = 2.0


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


def follow(owner: int) -> Callable[[], bool]:
    """For a child that may have much to finish: see to it that it ends within three seconds of its owner.

    Parameters: `owner`, the process id of the parent. Once that is gone this process gets SIGTERM, also where no kernel
    sends it, and soon after a signal that kills it, whatever it is doing then. Returns what says whether it is gone: a
    drain that is told so gives everything back at once.
    """

    def gone() -> bool:
        return os.getppid() != owner

    def watch() -> None:
        while not gone():
            time.sleep(_OWNER_LOOK_S)
        signal.setitimer(signal.ITIMER_REAL, _ORPHAN_S)  # the kernel's: no thread can keep it from coming
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="llm-mcp-owner", daemon=True).start()
    return gone


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
        self._ready = threading.Event()
        self._line = ""

    def start(self) -> None:
        """Start the process."""
        self._ready, self._line = threading.Event(), ""
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
        listening = threading.Thread(
            target=self._listen, args=(self._process.stdout, self._ready), name=f"llm-mcp-{self.name}", daemon=True
        )
        listening.start()

    @property
    def pid(self) -> int | None:
        """Its process id, None while it does not run."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def ended(self) -> int | None:
        """Return the exit code of a process that ended, None while it runs or when it was never started."""
        return None if self._process is None else self._process.poll()

    def says_ready(self) -> bool:
        """Return whether it has said `ready …` since its start; does not wait."""
        return self._ready.is_set()

    @property
    def line(self) -> str:
        """What followed `ready`, such as a URL; "" before it was said."""
        return self._line

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

    def _listen(self, said: IO[bytes], ready: threading.Event) -> None:
        """Read what it says until it ends: the ready line is for us, all else goes where its log goes.

        On a thread of its own, for a child whose pipe is full would stand still.
        """
        elsewhere = self._log or sys.stderr.buffer
        with said:
            while line := said.readline(_MAX_LINE):
                if line.startswith(b"ready ") and line.endswith(b"\n") and not ready.is_set():
                    self._line = line.decode(errors="replace").strip().partition(" ")[2]
                    ready.set()
                    continue
                with contextlib.suppress(OSError, ValueError):  # nobody reads our log any more
                    elsewhere.write(line)
                    elsewhere.flush()
