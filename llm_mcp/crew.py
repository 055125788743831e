"""Several worker processes under one command: a small master that starts them, restarts them, and drains them.

The master opens no connection and runs no job, so nothing of a job can end it; each member is a worker process like any
other. A member that dies takes no other with it, and no member outlives the master.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from . import config
from .child import Child
from .children import Children
from .config import Settings
from .errors import SetupError
from .signals import Signals

log = logging.getLogger(__name__)

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that ask for a drain; a closed terminal is no reason to break off what runs."""
_START_LOOK_S = 0.05
_LAST_WORDS_S = 8.0


def member(number: int, *, environment: Mapping[str, str], threads: int | None = None) -> Child:
    """Return the `number`th worker process of this one, not started yet.

    Parameters: `environment`, all of it (config.child_environment); `threads`, how many jobs it runs at once (None: the
    setting).
    """
    own = [sys.executable, "-m", "llm_mcp", "worker", "--processes", "1", "--owner", str(os.getpid())]
    chosen = [] if threads is None else ["--threads", str(threads)]
    return Child(f"worker {number}", [*own, *chosen], environment=environment)


def drain(members: Sequence[Child], signals: Signals, *, grace_s: float) -> None:
    """Have all members drain at the same time and wait for them; each further stop signal hurries them.

    Running jobs may finish for `grace_s` seconds; who has not ended some seconds after that is left to be killed.
    """
    for child in members:
        child.signal(signal.SIGTERM)
    end = time.monotonic() + grace_s + _LAST_WORDS_S
    while any(child.pid for child in members) and time.monotonic() < end:
        if signals.wait(0.1) in STOP:
            for child in members:
                child.signal(signal.SIGTERM)


class Crew:
    """Keeps `processes` worker processes alive until told to stop. Run it from the main thread.

    Parameters: `threads`, how many jobs each runs at once (None: the setting).
    """

    def __init__(self, settings: Settings, *, processes: int, threads: int | None = None) -> None:
        self._grace_s = settings.drain_s
        environment = config.child_environment(settings)
        self._members = [member(n + 1, environment=environment, threads=threads) for n in range(processes)]
        self._children = Children()

    def run(self, on_ready: Callable[[str], None]) -> None:
        """Run until SIGTERM, SIGINT or SIGHUP, then drain; a second signal hurries.

        Calls `on_ready` with `worker <id>` for each member that claims, also for those started again. Raises SetupError
        when every member gave up before the first of them was ready.
        """
        with Signals(*STOP, signal.SIGCHLD) as signals:
            try:
                for child in self._members:
                    child.start()
                    self._children.keep(child.name, child)
                self._watch(signals, on_ready)
                drain(self._members, signals, grace_s=self._grace_s)
            finally:
                self._end()

    def _watch(self, signals: Signals, on_ready: Callable[[str], None]) -> None:
        told: dict[str, str] = {}
        gave_up: dict[str, int] = {}
        look_s = 0.0
        while signals.wait(look_s) not in STOP:
            for child in self._members:
                if child.says_ready() and told.get(child.name) != child.line:
                    told[child.name] = child.line
                    on_ready(child.line)
                code = child.ended()
                if code is not None and code > 0:  # its own verdict, unlike a signal
                    gave_up[child.name] = code
            if not told and len(gave_up) == len(self._members):
                raise SetupError(f"no worker process got ready (exit {max(gave_up.values())}); the log says why")
            look_s = self._children.revive()
            if not all(child.says_ready() for child in self._members):
                look_s = min(look_s, _START_LOOK_S)

    def _end(self) -> None:
        for child in self._members:
            if child.pid is not None:
                log.error("a worker did not drain", extra={"action": "worker_killed", "child": child.name})
            child.kill()
