"""A network of a run's own, in which packets can be made to vanish. Root on Linux only; others go without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

_UNSHARE = ("unshare", "--net")


def is_to_be_had() -> bool:
    """Whether this process may have a network namespace, and can handle it."""
    if sys.platform != "linux" or os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return (
        subprocess.run([*_UNSHARE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode == 0
    )


def go_on_inside(argv: Sequence[str]) -> None:
    """Become this program in a network namespace of its own; does not return."""
    os.execvp(_UNSHARE[0], [*_UNSHARE, *argv])


def open_loopback() -> None:
    """Make the loopback of a fresh namespace work."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Severed:
    """Whether packets to one loopback address of this namespace vanish."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._is = False

    def begin(self) -> None:
        """Have them vanish."""
        self._set(True)

    def end(self) -> None:
        """Have them arrive."""
        self._set(False)

    def _set(self, severed: bool) -> None:
        if severed != self._is:
            verb = "add" if severed else "del"
            subprocess.run(["ip", "route", verb, "blackhole", self._address, "table", "local"], check=True)
            self._is = severed
