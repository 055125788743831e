"""Signals are waited for, one by one, and what was there before comes back."""

from __future__ import annotations

import os
import signal
import threading
import time

from llm_mcp.signals import Signals


def test_a_signal_is_returned_once() -> None:
    with Signals(signal.SIGUSR1, signal.SIGUSR2) as signals:
        assert signals.wait(0) is None
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert {signals.wait(5), signals.wait(5)} == {signal.SIGUSR1, signal.SIGUSR2}
        assert signals.wait(0) is None


def test_a_signal_ends_a_wait_at_once() -> None:
    with Signals(signal.SIGUSR1) as signals:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        began = time.monotonic()
        assert signals.wait(30) is signal.SIGUSR1
        assert time.monotonic() - began < 10
        timer.join()


def test_the_handlers_of_before_come_back() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        with Signals(signal.SIGUSR1):
            os.kill(os.getpid(), signal.SIGUSR1)
        assert heard == []
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)
