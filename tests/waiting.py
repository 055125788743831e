"""Waiting for something to become true, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], *, timeout_s: float = 20.0, every_s: float = 0.01) -> T:
    """Return the first truthy value of `look`; fail after `timeout_s` seconds with the last one."""
    end = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"still {found!r} after {timeout_s:g} s")
        time.sleep(every_s)
