"""Serving the application: gunicorn's thread workers, set up here so that there is no configuration file to lose.

`gthread` is the worker that carries thousands of streams without patching the interpreter. Each process gets its own
runtime (nothing is opened before the fork).
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
from contextlib import suppress
from typing import Any, NamedTuple

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped] # gunicorn ships no types

from llm_mcp import listening, logs
from llm_mcp import runtime as runtimes
from llm_mcp.child import follow_owner
from llm_mcp.config import Settings
from llm_mcp.kinds import load_modules
from llm_mcp.runtime import Runtime

from .app import create_app
from .incoming import MAX_FIELDS, MAX_LINE_BYTES
from .process import TOLD, Log, Process

_SPARE_THREADS = 64
_GRACE_S = 4
# An idle connection costs a place, no thread. Longer than clients keep theirs, so that none sends into a closing one.
_KEEP_S = 75
# What a client does not take for so long is not sent again, and it is hung up on, s.
_STALLED_S = 8
# One of which nothing is heard for so long is asked for a sign of life; twice unanswered, it is gone, s.
_QUIET_S, _SIGN_S = 5, 2
# Files a process has open besides its clients' connections.
_OTHER_FILES = 256 + TOLD


class Limits(NamedTuple):
    """What one serving process takes: `connections` at once, `body_bytes` of a request."""

    connections: int
    body_bytes: int


class Server(BaseApplication):  # type: ignore[misc] # gunicorn ships no types
    """gunicorn over our application; `run()` serves until SIGTERM or SIGINT.

    Parameters: `door`, a bound socket; `processes`, how many serve it.
    """

    def __init__(self, settings: Settings, door: socket.socket, *, processes: int = 1) -> None:
        self._settings = settings
        self._processes = processes
        self._url = listening.url(door)
        self._fd = door.detach()
        self._follow = follow_owner(signal.SIGKILL)
        self._runtime: Runtime | None = None
        # One byte over the limit comes in: the application sees, and says, that it is too much.
        self.limits = Limits(_connections(settings), settings.max_body_bytes + 1)
        # Several processes boot, and some again later: the one that gets the byte says that we are ready.
        self._baton, token = os.pipe()
        os.write(token, b"r")
        os.close(token)
        super().__init__()

    def load_config(self) -> None:
        """Set what we mean; everything else stays gunicorn's default."""
        chosen: dict[str, Any] = {
            "bind": f"fd://{self._fd}",
            "worker_class": Process,
            "workers": self._processes,
            "threads": self._settings.max_streams + _SPARE_THREADS,
            "worker_connections": self.limits.connections + 2 * TOLD,  # never reached: gunicorn's limit is silence
            "backlog": listening.BACKLOG,
            "timeout": 30,
            "graceful_timeout": _GRACE_S,
            "keepalive": _KEEP_S,
            "limit_request_line": MAX_LINE_BYTES,
            "limit_request_field_size": MAX_LINE_BYTES,
            "limit_request_fields": MAX_FIELDS,
            "control_socket_disable": True,
            "preload_app": False,
            "accesslog": None,
            "logger_class": Log,
            "loglevel": "warning",
            "proc_name": "llm-mcp web",
            "post_fork": self._after_fork,
            "post_worker_init": self._when_booted,
            "worker_exit": self._when_leaving,
        }
        for name, value in chosen.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Make the application of one serving process."""
        self._runtime = Runtime(self._settings)
        runtimes.use(self._runtime)
        return create_app(self._runtime)

    def _after_fork(self, _master: Any, _process: Any) -> None:
        # gunicorn's own look at its parent does not end a process that has streams open.
        if self._follow is not None:
            self._follow()

    def _when_booted(self, _process: Any) -> None:
        if os.read(self._baton, 1):
            with suppress(OSError):  # nobody listens: then nobody has to know
                print(f"ready {self._url}", flush=True)

    def _when_leaving(self, _master: Any, _process: Any) -> None:
        if self._runtime is not None:
            self._runtime.close()


def serve(settings: Settings, *, processes: int = 1, fd: int | None = None) -> None:
    """Serve until told to stop, then leave the process (exit code 0 after a drain).

    Parameters: `processes`, how many processes serve; `fd`, an inherited socket that is bound already: whoever holds it
    too can start us again without refusing a connection meanwhile. Without one the address is `settings.http_addr`.
    Prints one line `ready http://HOST:PORT` to standard output once requests are answered. Raises SetupError.
    """
    logs.configure(settings)
    load_modules(settings.user_modules())  # here, so that a missing one is an error of ours and not of every process
    door = listening.opened(settings) if fd is None else listening.inherited(fd)
    _be_strict(door)
    Server(settings, door, processes=processes).run()


def _be_strict(door: socket.socket) -> None:
    """Have the kernel drop clients that take nothing, or are gone; what it accepts has this from here."""
    door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _STALLED_S, 0))
    door.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_USER_TIMEOUT", _STALLED_S * 1000),
        ("TCP_KEEPIDLE", _QUIET_S),
        ("TCP_KEEPINTVL", _SIGN_S),
        ("TCP_KEEPCNT", 2),
    ):
        if hasattr(socket, name):
            door.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _connections(settings: Settings) -> int:
    """Return how many connections a process may have, with as many files allowed to it if need be."""
    wanted = max(settings.max_connections, settings.max_streams + _SPARE_THREADS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + _OTHER_FILES:
        soft = wanted + _OTHER_FILES if hard == resource.RLIM_INFINITY else min(hard, wanted + _OTHER_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        wanted = min(wanted, max(soft // 2, soft - _OTHER_FILES))
    return wanted
