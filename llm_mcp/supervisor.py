"""All in one: Postgres, a model, workers and the doors as children of one process that keeps them alive.

The main thread owns every child: it starts them (the kernel ties their lives to that thread), hears of their ends and
of signals in one loop, and starts again what ended by itself. The scheduler is its only other thread.
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from . import config, crew, listening, local_models, schema
from .child import Child
from .children import Children
from .config import Settings
from .crew import STOP
from .embedded.cluster import make_folder
from .embedded.postgres import EmbeddedPostgres
from .errors import SetupError
from .runtime import Runtime
from .scheduler import Scheduler
from .signals import Signals

_START_S = 120.0
_START_LOOK_S = 0.02
_WEB_END_S = 8.0
_DEVICE_END_S = 3.0


class Supervisor:
    """Runs everything until SIGTERM or SIGINT.

    Parameters: `workers`, how many worker processes (0: none); `model`, whether to serve the embedded model when there
    is no Ollama; `rpc`, whether to serve gRPC; `mcp`, whether to serve the MCP bridge, which asks by gRPC; `say`,
    called with a line for people about each step.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        workers: int = 1,
        model: bool = True,
        rpc: bool = True,
        mcp: bool = True,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._workers = workers
        self._model = model
        self._rpc = rpc
        self._mcp = mcp
        self._say = say
        self._postgres: EmbeddedPostgres | None = None
        self._members: list[Child] = []
        self._others: list[Child] = []
        self._children = Children()
        self._runtime: Runtime | None = None
        self._scheduler: Scheduler | None = None

    def run(self, on_ready: Callable[[str], None]) -> None:
        """Start everything, call `on_ready` with the base URL once it serves, and return after a drain.

        Raises SetupError when something cannot be started.
        """
        with (
            Signals(*STOP, signal.SIGCHLD) as signals,
            listening.opened(self._settings) as door,
            self._bridge_door() as bridge_door,
        ):
            try:
                self._start(door, bridge_door, signals)
                self._watch(signals, lambda: on_ready(listening.url(door)))
                self._drain(signals)
            except SetupError:
                if not signals.caught(*STOP):  # else whoever stops us is not told that it worked
                    raise
            finally:
                self._end()
            self._say("stopped")

    def _bridge_door(self) -> AbstractContextManager[socket.socket | None]:
        """Return the bridge's listening socket, None when it is left out."""
        if not self._mcp:
            return nullcontext()
        if not self._rpc:
            self._say("MCP: not served, for it asks by gRPC (--no-rpc)")
            return nullcontext()
        try:
            return listening.bridge(self._settings)
        except SetupError as error:
            raise SetupError(f"{error}; --no-mcp leaves the bridge out") from None

    def _start(self, door: socket.socket, bridge_door: socket.socket | None, signals: Signals) -> None:
        settings = self._settings
        make_folder(settings.data_dir)
        if settings.db_dsn is None:
            self._say("starting Postgres")
            self._postgres = EmbeddedPostgres(settings.data_dir, interrupted=lambda: signals.caught(*STOP))
            self._postgres.start()
            self._children.keep("Postgres", self._postgres)
        self._runtime = runtime = Runtime(settings)
        schema.migrate(runtime, on_applied=lambda made: self._say(f"migrated {made.version:04} {made.name}"))
        environment = config.child_environment(settings.model_copy(update={"http_addr": listening.address(door)}))
        web = [sys.executable, "-m", "llm_mcp", "web", "--fd", str(door.fileno())]
        self._members = [crew.member(n + 1, environment=environment) for n in range(self._workers)]
        self._others = [*self._device(), Child("web", web, environment=environment, pass_fds=[door.fileno()])]
        if self._rpc:
            self._others.append(Child("rpc", [sys.executable, "-m", "llm_mcp", "rpc"], environment=environment))
        for child in (*self._members, *self._others):
            self._begin(child)
        if bridge_door is not None:
            environment["CORE_GRPC_ADDR"] = self._core_address(signals)
            bridge = [sys.executable, "-m", "llm_mcp", "mcp", "--fd", str(bridge_door.fileno())]
            self._others.append(Child("mcp", bridge, environment=environment, pass_fds=[bridge_door.fileno()]))
            self._begin(self._others[-1])
            self._say(f"MCP at {listening.url(bridge_door)}/mcp")
        runtime.require_sessions()
        self._scheduler = Scheduler(runtime)
        self._scheduler.start()

    def _begin(self, child: Child) -> None:
        self._say(f"starting {child.name}")
        child.start()
        self._children.keep(child.name, child)

    def _core_address(self, signals: Signals) -> str:
        """Return where gRPC is called: once it is known, when any free port was asked for."""
        rpc = next(child for child in self._others if child.name == "rpc")
        while self._settings.grpc_host_port[1] == 0 and rpc.ended() is None and not signals.caught(*STOP):
            if rpc.says_ready():
                return rpc.line.removeprefix("grpc://")
            time.sleep(_START_LOOK_S)
        return self._settings.grpc_addr

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
        waiting, deadline = [*self._members, *self._others], time.monotonic() + _START_S
        announced, look_s = False, 0.0
        while signals.wait(look_s) not in STOP:
            waiting = [child for child in waiting if not child.says_ready()]
            for child in waiting:
                if (code := child.ended()) is not None:
                    raise SetupError(f"{child.name} ended before it was ready (exit {code}); its log says why")
            look_s = self._children.revive()
            if waiting and time.monotonic() > deadline:
                names = ", ".join(child.name for child in waiting)
                raise SetupError(f"not ready within {_START_S:g} s: {names}")
            if waiting:
                look_s = min(look_s, _START_LOOK_S)
            elif not announced:
                announced = True
                on_ready()

    def _drain(self, signals: Signals) -> None:
        """Let running jobs finish while the web door still tells their watchers, then close the door."""
        self._say("draining: running jobs may finish (again: at once)")
        crew.drain(self._members, signals, grace_s=self._settings.drain_s)
        for name, patience_s in (
            ("mcp", _WEB_END_S),
            ("rpc", _WEB_END_S),
            ("web", _WEB_END_S),
            ("embedded model", _DEVICE_END_S),
        ):
            for child in self._others:
                if child.name == name:
                    child.signal(signal.SIGTERM)
                    child.wait(patience_s)

    def _end(self) -> None:
        for child in (*self._members, *self._others):
            child.kill()
        if self._scheduler is not None:
            self._scheduler.stop()
        if self._runtime is not None:
            self._runtime.close()
        if self._postgres is not None:
            self._postgres.stop()
