"""The processes of a self-test, and signals that end it without leaving any behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from llm_mcp import config, crew
from llm_mcp.child import Child
from llm_mcp.config import Settings
from llm_mcp.errors import SetupError

_STUB = "llm_mcp.selftest.stub"
_START_S = 60.0
_STUB_S = 300.0
_STOP_S = 10.0
_LOOK_S = 0.01
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have the first of SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt inside, and SystemExit in the end.

    For the main thread. The exit code is 128 and the signal's number. Later signals are ignored, for all is ending.
    """
    caught: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def end(number: int, _: FrameType | None) -> NoReturn:
        for one in _SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        caught.append(number)
        raise KeyboardInterrupt  # for which psycopg cancels what the server is at

    for number in _SIGNALS:
        signal.signal(number, end)
    try:
        yield
    except KeyboardInterrupt:
        if caught:
            raise SystemExit(128 + caught[0]) from None
        raise
    finally:
        if not caught:
            for number, handler in before.items():
                signal.signal(number, handler)


def undisturbed(action: Callable[[], object]) -> None:
    """Run what must not be broken off by a signal."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        action()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def workers(settings: Settings, *, processes: int, threads: int) -> Iterator[list[Child]]:
    """Give so many worker processes, as `llm-mcp worker` starts them, once all of them claim; none is left in the end.

    Raises SetupError when they do not get so far.
    """
    environment = config.child_environment(settings)
    members = [crew.member(n + 1, environment=environment, threads=threads) for n in range(processes)]
    try:
        for child in members:
            child.start()
        _wait_ready(members, timeout_s=_START_S)
        yield members
    finally:
        undisturbed(lambda: _stop(members))


def stub_drain_per_s(environment: Mapping[str, str], *, jobs: int, threads: int) -> float:
    """Return the jobs/s of Dramatiq's stub broker, in a process of its own."""
    argv = [sys.executable, "-m", _STUB, str(jobs), str(threads), str(os.getpid())]
    child = Child("stub broker", argv, environment=environment)
    try:
        child.start()
        _wait_ready([child], timeout_s=_STUB_S)
        return float(child.line)
    finally:
        undisturbed(child.kill)


def check_alive(members: Sequence[Child]) -> None:
    """Raise SetupError when one of them ended."""
    for child in members:
        if (code := child.ended()) is not None:
            raise SetupError(f"{child.name} ended by itself (exit {code})")


def _wait_ready(members: Sequence[Child], *, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    for child in members:
        while not child.says_ready():
            if child.ended() is not None and child.says_ready():
                break  # its last words were heard a moment later
            check_alive(members)
            if time.monotonic() > end:
                raise SetupError(f"{child.name} was not ready within {timeout_s:g} s")
            time.sleep(_LOOK_S)  # the child says it on a pipe we only look into


def _stop(members: Sequence[Child]) -> None:
    """Drain all at once, and kill what takes too long."""
    for child in members:
        child.signal(signal.SIGTERM)
    end = time.monotonic() + _STOP_S
    for child in members:
        if not child.wait(end - time.monotonic()):
            child.kill()
