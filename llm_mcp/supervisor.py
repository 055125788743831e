"""All in one: Postgres, a model, workers and the web door as children of one process that keeps them alive.

The main thread owns every child: it starts them (the kernel ties their lives to that thread), hears of their ends and
of signals in one loop, and starts again what ended by itself. The scheduler is its only other thread.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from . import config, listening, local_models, schema
from .child import Child
from .config import Settings
from .embedded.cluster import make_folder
from .embedded.postgres import EmbeddedPostgres
from .errors import SetupError
from .runtime import Runtime
from .scheduler import Scheduler
from .signals import Signals

log = logging.getLogger(__name__)

# A closed terminal is no reason to break off what runs.
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_START_S = 120.0
_HEALTHY_S = 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_LAST_WORDS_S = 8.0
_WEB_END_S = 8.0
_DEVICE_END_S = 3.0


@dataclass(eq=False, slots=True)
class _Care:
    """What is remembered of one child between its ends."""

    child: Child
    ready: bool = False
    failures: int = 0
    start_at: float | None = field(default=None)
    """Monotonic instant to start it again, s; None while it runs."""


class Supervisor:
    """Runs everything until SIGTERM or SIGINT.

    Parameters: `workers`, how many worker processes (0: none); `model`, whether to serve the embedded model when there
    is no Ollama; `say`, called with a line for people about each step.
    """

    def __init__(
        self, settings: Settings, *, workers: int = 1, model: bool = True, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._settings = settings
        self._workers = workers
        self._model = model
        self._say = say
        self._postgres: EmbeddedPostgres | None = None
        self._postgres_at = 0.0
        self._postgres_pause_s = 0.0
        self._cares: list[_Care] = []
        self._runtime: Runtime | None = None
        self._scheduler: Scheduler | None = None

    def run(self, on_ready: Callable[[str], None]) -> None:
        """Start everything, call `on_ready` with the base URL once it serves, and return after a drain.

        Raises SetupError when something cannot be started.
        """
        with Signals(*_STOP, signal.SIGCHLD) as signals, listening.opened(self._settings) as door:
            try:
                self._start(door, signals)
                self._watch(signals, lambda: on_ready(listening.url(door)))
                self._drain(signals)
            except SetupError:
                if not signals.caught(*_STOP):  # else whoever stops us is not told that it worked
                    raise
            finally:
                self._end()
            self._say("stopped")

    def _start(self, door: socket.socket, signals: Signals) -> None:
        settings = self._settings
        make_folder(settings.data_dir)
        if settings.db_dsn is None:
            self._say("starting Postgres")
            self._postgres = EmbeddedPostgres(settings.data_dir, interrupted=lambda: signals.caught(*_STOP))
            self._postgres.start()
        self._runtime = runtime = Runtime(settings)
        schema.migrate(runtime, on_applied=lambda made: self._say(f"migrated {made.version:04} {made.name}"))
        environment = config.child_environment(settings.model_copy(update={"http_addr": listening.address(door)}))
        own = [sys.executable, "-m", "llm_mcp"]
        children = [
            *self._device(),
            *(Child(f"worker {i + 1}", [*own, "worker"], environment=environment) for i in range(self._workers)),
            Child("web", [*own, "web", "--fd", str(door.fileno())], environment=environment, pass_fds=[door.fileno()]),
        ]
        for child in children:
            self._say(f"starting {child.name}")
            child.start()
            self._cares.append(_Care(child))
        self._scheduler = Scheduler(runtime)
        self._scheduler.start()

    def _device(self) -> list[Child]:
        """Return the embedded device to start, unless another Ollama is there or it cannot be had, and say which."""
        found = local_models.find(self._settings)
        reason = local_models.no_embedded_reason(self._settings)
        if found is not None and found[0] is not local_models.Source.EMBEDDED:
            self._say(f"models: Ollama at {found[1]}")
        elif not self._model:
            self._say("models: none of this machine (--no-model)")
        elif reason is not None:
            self._say(f"models: none of this machine ({reason})")
        else:
            return [local_models.embedded_device(self._settings)]
        return []

    def _watch(self, signals: Signals, on_ready: Callable[[], None]) -> None:
        """Keep everything alive until told to stop. Raises SetupError when it does not get ready."""
        announced, deadline = False, time.monotonic() + _START_S
        while True:
            number = signals.wait(0.5 if announced else 0.02)
            if number in _STOP:
                return
            for care in self._cares:
                if not care.ready:
                    care.ready = care.child.says_ready()
            self._revive(starting=not announced)
            if not announced and all(care.ready for care in self._cares):
                announced = True
                on_ready()
            elif not announced and time.monotonic() > deadline:
                waiting = ", ".join(care.child.name for care in self._cares if not care.ready)
                raise SetupError(f"not ready within {_START_S:g} s: {waiting}")

    def _revive(self, *, starting: bool) -> None:
        """Start again what ended by itself: at once the first time, then with growing pauses."""
        now = time.monotonic()
        if self._postgres is not None and self._postgres.pid is None and now >= self._postgres_at:
            log.error("Postgres ended; starting it again", extra={"action": "postgres_ended"})
            try:
                self._postgres.start()
                self._postgres_pause_s = 0.0
            except SetupError as error:
                # What an old server left behind may still be on its way out: again, and again.
                self._postgres_pause_s = min(_LONGEST_PAUSE_S, 2 * self._postgres_pause_s + _FIRST_PAUSE_S)
                self._postgres_at = time.monotonic() + self._postgres_pause_s
                log.error("Postgres did not start", extra={"action": "postgres_down", "error": str(error)})
        for care in self._cares:
            code = care.child.ended()
            if care.start_at is not None:
                if now >= care.start_at:
                    care.start_at = None
                    care.child.start()
            elif code is not None:
                if starting and not care.ready:
                    raise SetupError(f"{care.child.name} ended before it was ready (exit {code}); its log says why")
                care.failures = 0 if now - care.child.started_at > _HEALTHY_S else care.failures + 1
                pause_s = (
                    min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(care.failures, 10)) if care.failures else 0.0
                )
                care.start_at = now + pause_s
                log.error(
                    "a process ended; starting it again",
                    extra={"action": "child_ended", "child": care.child.name, "exit": code, "pause_s": pause_s},
                )

    def _drain(self, signals: Signals) -> None:
        """Let running jobs finish while the web door still tells their watchers, then close the door."""
        workers = [care.child for care in self._cares if care.child.name.startswith("worker")]
        self._say("draining: running jobs may finish (again: at once)")
        for child in workers:
            child.signal(signal.SIGTERM)
        end = time.monotonic() + self._settings.drain_s + _LAST_WORDS_S
        while any(child.pid for child in workers) and time.monotonic() < end:
            if signals.wait(0.1) in _STOP:
                for child in workers:
                    child.signal(signal.SIGTERM)
        for name, patience_s in (("web", _WEB_END_S), ("embedded model", _DEVICE_END_S)):
            for care in self._cares:
                if care.child.name == name:
                    care.child.signal(signal.SIGTERM)
                    care.child.wait(patience_s)

    def _end(self) -> None:
        for care in self._cares:
            care.child.kill()
        if self._scheduler is not None:
            self._scheduler.stop()
        if self._runtime is not None:
            self._runtime.close()
        if self._postgres is not None:
            self._postgres.stop()
