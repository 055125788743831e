"""A worker process: Dramatiq's threads over our broker, the keeper of their leases, and a scheduler."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable

import dramatiq
import uuid_utils.compat

from . import runtime as runtimes
from .broker import LeaseBroker, broker
from .child import follow
from .config import Settings
from .errors import LlmMcpError
from .keeper import Keeper, new_worker_id
from .kinds import load_modules
from .limits import Limits
from .middleware import Roll
from .runtime import Runtime
from .scheduler import Scheduler
from .schedules import Schedules
from .signals import Signals

log = logging.getLogger(__name__)

ACTORS = "llm_mcp.actors"
_TICK_MS = 500
_LAST_WORDS_S = 3.0
_STEP_S = 0.1
_LOOK_S = 1.0


class Worker:
    """Claims and runs jobs until told to stop. One at a time in a process.

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
            on_free=broker.wake.freed,
        )
        self._dramatiq = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=_TICK_MS)
        self._middleware = list(broker.middleware)
        self._scheduler = Scheduler(runtime)

    def start(self) -> None:
        """Report for work, then claim. Raises Unavailable or SetupError when that cannot be done."""
        Schedules(self.runtime).declare()
        Limits(self.runtime).declare()
        self.keeper.start()
        self.broker.keeper = self.keeper
        self._scheduler.start()
        roll = Roll()
        self.broker.add_middleware(roll)
        self._dramatiq.start()
        for _ in self._dramatiq_threads():
            roll.begun.acquire()
        log.info("worker ready", extra={"action": "worker_ready", "worker_id": self.id})

    def fault(self) -> str | None:
        """Return the name of a thread that ended though nobody stopped it, None while all are at work."""
        dead = next((thread.name for thread in self._dramatiq_threads() if not thread.is_alive()), None)
        return dead or self.keeper.fault() or self._scheduler.fault()

    def drain(self, grace_s: float, *, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Stop claiming, let running jobs finish for `grace_s` seconds (or until `hurry()`), give the rest back.

        Returns whether everything finished by itself.
        """
        self.keeper.take_no_more()
        left_s = grace_s
        finished = self.keeper.wait_idle(0)
        while not finished and left_s > 0 and not hurry():
            finished = self.keeper.wait_idle(min(_STEP_S, left_s))
            left_s -= _STEP_S
        if not finished:
            self.keeper.release_all()
            self.keeper.wait_idle(_LAST_WORDS_S)
        self._dramatiq.stop(timeout=int(_LAST_WORDS_S * 1000))
        if not self.keeper.wait_idle(0):  # a claim was on its way when we looked
            self.keeper.release_all()
            finished = False
        self._scheduler.stop()
        self.keeper.stop()
        self.broker.keeper = None
        self.broker.middleware[:] = self._middleware  # Dramatiq leaves its own behind
        log.info("worker stopped", extra={"action": "worker_stopped", "worker_id": self.id})
        return finished

    def _dramatiq_threads(self) -> list[threading.Thread]:
        return [*self._dramatiq.workers, *self._dramatiq.consumers.values()]


def main(settings: Settings, *, threads: int | None = None, owner: int | None = None) -> None:
    """Run a worker in this process until SIGTERM or SIGINT; a second signal, or the end of its owner, hurries it.

    Parameters: `threads`, how many jobs at once (None: the setting); `owner`, the process id of the parent when its end
    is to be ours. Prints `ready worker <id>` once it claims. Raises SetupError or Unavailable when it cannot start,
    LlmMcpError when a part of it died: then another process is the cure.
    """
    orphaned = follow(owner) if owner is not None else lambda: False
    runtime = Runtime(settings)
    runtimes.use(runtime)
    load_modules([ACTORS, *settings.user_modules()])
    with Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        worker = Worker(runtime, threads=threads)
        worker.start()
        print(f"ready worker {worker.id}", flush=True)
        dead = None
        while dead is None and signals.wait(_LOOK_S) is None:
            dead = worker.fault()
        worker.drain(settings.drain_s, hurry=lambda: orphaned() or signals.wait(0) is not None)
    runtime.close()
    if dead is not None:
        log.critical("a thread died", extra={"action": "worker_broken", "dead": dead})
        raise LlmMcpError(f"the worker's thread {dead} died")
