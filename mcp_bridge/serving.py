"""Serving the bridge: over HTTP, one process with one event loop, or over its standard input and output."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import traceback
from types import FrameType
from typing import cast

import anyio
import uvicorn
from mcp.server.stdio import stdio_server

from llm_mcp import listening, logs
from llm_mcp.config import Settings
from llm_mcp.errors import SetupError
from llm_mcp.signals import Signals

from .app import create_app
from .core import Core
from .server import create_server
from .stdio import STOP, Answers, Lines

# What waits is told at once that we stop. So long after, streams end; what has not ended by then is cut still later, s.
_TELL_S, _GRACE_S = 0.3, 4
_KEEP_S = 75
# These say too much: each request, and ids of sessions.
_QUIET = ("mcp", "uvicorn.error", "uvicorn.access", "sse_starlette", "httpx2", "httpcore2")


def serve(settings: Settings, *, fd: int | None = None) -> None:
    """Serve HTTP until SIGTERM or SIGINT, then tell what waits, and end within six seconds.

    Parameters: `fd`, an inherited listening socket; None: `settings.mcp_addr` is opened. Prints one line
    `ready mcp http://HOST:PORT` to standard output once requests are answered. Raises SetupError.
    """
    _log(settings)
    with Signals(*STOP) as signals:
        core = Core(settings)
        app = create_app(settings, core=core)
        door = listening.bridge(settings) if fd is None else listening.inherited(fd)
        chosen = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=listening.BACKLOG,
            limit_concurrency=settings.max_connections,
            timeout_keep_alive=_KEEP_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
        _Server(chosen, core, signals, listening.url(door)).run(sockets=[door])


def serve_stdio(settings: Settings) -> None:
    """Serve the one client at our standard input and output until it closes them, or SIGTERM or SIGINT comes.

    What waits is then cancelled, and the jobs that nobody waits for any more with it, within three seconds. Standard
    output is the protocol: the log goes to standard error. Raises SetupError.
    """
    if sys.stdin is None or sys.stdout is None:  # what bears its number by now is something else
        raise SetupError("--stdio: standard input and output must be open")
    _log(settings)
    with Lines() as lines:

        async def run() -> None:
            core = Core(settings)
            async with core:
                # As `run_stdio_async` does, which takes no input but the one that only its client can end.
                server = create_server(lambda: core, settings)._lowlevel_server
                stdin, stdout = cast("anyio.AsyncFile[str]", lines), cast("anyio.AsyncFile[str]", Answers())
                async with stdio_server(stdin, stdout) as (read, write):
                    await server.run(read, write, server.create_initialization_options())

        try:
            anyio.run(run)
        except* BrokenPipeError:  # the client is gone: there is nobody to tell
            pass


class _Server(uvicorn.Server):
    """uvicorn, which says when it is ready, and what waits in our application when it stops.

    Parameters: `signals`, which has those that came before uvicorn heard; `url`, where it is reached.
    """

    def __init__(self, config: uvicorn.Config, core: Core, signals: Signals, url: str) -> None:
        super().__init__(config)
        self._core = core
        self._signals = signals
        self._url = url
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._signals.caught(*STOP):
            self.should_exit = True
        elif self.started:
            self._loop = asyncio.get_running_loop()
            print(f"ready mcp {self._url}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop in two steps: an answer that is still to come over a stream must be sent before streams end."""
        loop, self._loop = self._loop, None
        if loop is None:
            super().handle_exit(sig, frame)
            return
        loop.call_soon_threadsafe(self._core.stop)
        loop.call_soon_threadsafe(loop.call_later, _TELL_S, super().handle_exit, sig, frame)


class _Discreet(logging.Filter):
    """Has errors of the SDK logged without their words: a client's may be among them."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None and record.name.partition(".")[0] in _QUIET:
            error = record.exc_info[1]
            last = traceback.extract_tb(error.__traceback__)[-1:]
            record.error = type(error).__name__
            record.where = [f"{place.filename}:{place.lineno}" for place in last]
            record.exc_info = record.exc_text = None
        return True


def _log(settings: Settings) -> None:
    logs.configure(settings)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_Discreet())
