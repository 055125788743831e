"""The bridge as one ASGI application: MCP at /mcp, and plain HTTP beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server import MCPServer
from mcp.server.streamable_http import EventStore
from starlette.applications import Starlette
from starlette.types import ASGIApp

from llm_mcp.config import Settings

from .core import Core

_IDLE_S = 300.0
_MAX_SESSIONS = 500


def create_app(
    settings: Settings,
    *,
    core: Core | None = None,
    server: MCPServer | None = None,
    event_store: EventStore | None = None,
    retry_interval_ms: int | None = None,
) -> ASGIApp:
    """Return the application; its lifespan opens the core and runs the sessions, once.

    Parameters: `core`, and `server`, what `create_server(lambda: core, settings)` made of it, given together by those
    who add to the server; `event_store` and `retry_interval_ms`, for streams that can be taken up again, in tests only.
    """
    used = core or Core(settings)
    if server is None:
        from .server import create_server  # noqa: PLC0415 - until it is there

        server = create_server(lambda: used, settings)
    inner = server.streamable_http_app(
        event_store=event_store,
        retry_interval=retry_interval_ms,
        max_request_body_size=settings.max_body_bytes,
        session_idle_timeout=_IDLE_S,
        max_sessions=_MAX_SESSIONS,
        host=settings.mcp_host_port[0],
    )
    sessions = server.session_manager

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with used, sessions.run():
            yield

    return Starlette(routes=inner.routes, lifespan=lifespan)
