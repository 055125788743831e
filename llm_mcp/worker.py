"""A worker process: Dramatiq's threads over our broker, the keeper of their leases, and a scheduler."""

from __future__ import annotations

import logging
import signal
import threading

import dramatiq
import uuid_utils.compat

from . import runtime as runtimes
from .broker import LeaseBroker, broker
from .config import Settings
from .keeper import Keeper, new_worker_id
from .kinds import load_modules
from .runtime import Runtime
from .scheduler import Scheduler

log = logging.getLogger(__name__)

ACTORS = "llm_mcp.actors"
_TICK_MS = 500
_LAST_WORDS_S = 3.0


class Worker:
    """Claims and runs jobs until told to stop. One a process.

    Parameters: `runtime`; `threads`, how many jobs at once (None: the setting).
    """

    def __init__(self, runtime: Runtime, *, threads: int | None = None, broker: LeaseBroker = broker) -> None:
        self.runtime = runtime
        self.broker = broker
        threads = threads or runtime.settings.worker_threads
        name = runtime.settings.worker_name
        self.id = new_worker_id(name, uuid_utils.compat.uuid7())
        self.keeper = Keeper(
            runtime,
            worker_id=self.id,
            name=name or "worker",
            threads=threads,
            kinds=lambda: sorted(broker.actors),
            on_free=broker.wake.set,
        )
        self._dramatiq = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=_TICK_MS)
        self._scheduler = Scheduler(runtime)

    def start(self) -> None:
        """Report for work, then claim. Raises Unavailable or SetupError when that cannot be done."""
        self.keeper.start()
        self.broker.keeper = self.keeper
        self._scheduler.start()
        self._dramatiq.start()
        log.info("worker ready", extra={"action": "worker_ready", "worker_id": self.id})

    def drain(self, grace_s: float, *, hurry: threading.Event | None = None) -> bool:
        """Stop claiming, let running jobs finish for `grace_s` seconds (or until `hurry`), give the rest back.

        Returns whether everything finished by itself.
        """
        self.keeper.draining = True
        step_s, left_s = 0.1, grace_s
        finished = self.keeper.wait_idle(0)
        while not finished and left_s > 0 and not (hurry is not None and hurry.is_set()):
            finished = self.keeper.wait_idle(min(step_s, left_s))
            left_s -= step_s
        if not finished:
            self.keeper.release_all()
            self.keeper.wait_idle(_LAST_WORDS_S)
        self._dramatiq.stop(timeout=int(_LAST_WORDS_S * 1000))
        self._scheduler.stop()
        self.keeper.stop()
        self.broker.keeper = None
        log.info("worker stopped", extra={"action": "worker_stopped", "worker_id": self.id})
        return finished


def main(settings: Settings, *, threads: int | None = None) -> None:
    """Run a worker in this process until SIGTERM or SIGINT; a second signal hurries.

    Raises SetupError or Unavailable when it cannot start.
    """
    runtime = Runtime(settings)
    runtimes.use(runtime)
    load_modules([ACTORS, *settings.user_modules()])
    stop, hurry = threading.Event(), threading.Event()

    def on_signal(_signum: int, _frame: object) -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    worker = Worker(runtime, threads=threads)
    worker.start()
    stop.wait()
    worker.drain(settings.drain_s, hurry=hurry)
    runtime.close()
