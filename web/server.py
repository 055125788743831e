"""Serving the application: gunicorn's thread workers, set up here so that there is no configuration file to lose.

`gthread` is the worker that carries thousands of streams without patching the interpreter. Each process gets its own
runtime (nothing is opened before the fork).
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from llm_mcp import logs
from llm_mcp import runtime as runtimes
from llm_mcp.config import Settings
from llm_mcp.kinds import load_modules
from llm_mcp.runtime import Runtime

from .app import create_app
from .streams import Streams

_SPARE_THREADS = 64
_GRACE_S = 5


class Server(BaseApplication):
    """gunicorn over our application; `run()` serves until SIGTERM or SIGINT."""

    def __init__(self, settings: Settings, *, processes: int = 1) -> None:
        self._settings = settings
        self._processes = processes
        super().__init__()

    def load_config(self) -> None:
        """Set what we mean; everything else stays gunicorn's default."""
        host, port = self._settings.http_host_port
        chosen: dict[str, Any] = {
            "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "worker_class": "gthread",
            "workers": self._processes,
            "threads": self._settings.max_streams + _SPARE_THREADS,
            "worker_connections": self._settings.max_streams * 2 + _SPARE_THREADS,
            "timeout": 30,
            "graceful_timeout": _GRACE_S,
            "keepalive": 5,
            "control_socket_disable": True,
            "preload_app": False,
            "accesslog": None,
            "loglevel": "warning",
            "proc_name": "llm-mcp web",
            "post_worker_init": _say_goodbye_on_term,
        }
        for name, value in chosen.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Make the application of one worker process."""
        logs.configure(self._settings)
        load_modules(self._settings.user_modules())
        runtime = Runtime(self._settings)
        runtimes.use(runtime)
        return create_app(runtime)


def _say_goodbye_on_term(worker: ThreadWorker) -> None:
    """Tell open streams to end as soon as this process is asked to stop; gunicorn itself would cut them."""
    streams: Streams = worker.wsgi.extensions["streams"]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        before = signal.getsignal(number)

        def on_signal(signum: int, frame: FrameType | None, before: Any = before) -> None:
            # Not here: a handler may interrupt a thread that holds the very lock it wants.
            threading.Thread(target=streams.drain, daemon=True).start()
            if callable(before):
                before(signum, frame)

        signal.signal(number, on_signal)


def serve(settings: Settings, *, processes: int = 1) -> None:
    """Serve until told to stop."""
    Server(settings, processes=processes).run()
