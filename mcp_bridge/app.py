"""The bridge as one ASGI application: MCP at /mcp, plain HTTP beside it, and a guard around both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.streamable_http import EventStore
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Router
from starlette.types import ASGIApp

from llm_mcp import listening
from llm_mcp.callers import Guard as Callers
from llm_mcp.config import Settings

from . import bridge
from .core import Core
from .guard import MCP_PATH, Guard
from .passing import Passing
from .server import create_server
from .single import Single
from .tokens import Tokens

# Clients that keep no session open one for each request: they are not kept long.
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
    Raises SetupError where anybody could call, and for a file of tokens that is wrong.
    """
    listening.require_keys(settings)
    tokens = None if settings.mcp_tokens is None else Tokens(settings.mcp_tokens)
    used = core or Core(settings)
    made = server or create_server(lambda: used, settings)
    passing = Passing(settings)
    sessions = made.streamable_http_app(
        streamable_http_path=MCP_PATH,
        event_store=event_store,
        retry_interval=retry_interval_ms,
        max_request_body_size=settings.max_body_bytes,
        session_idle_timeout=_IDLE_S,
        max_sessions=_MAX_SESSIONS,
        transport_security=_security(settings),
    )

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        async with used, passing.opened(), made.session_manager.run(), anyio.create_task_group() as group:
            if tokens is not None:
                group.start_soon(tokens.follow)
            yield
            group.cancel_scope.cancel()

    routes = [*sessions.routes, *bridge.routes(used, limit_bytes=settings.max_body_bytes), *passing.routes()]
    # Nothing but the routes: what goes wrong is the guard's to answer.
    app = Router(routes, lifespan=lifespan, redirect_slashes=False)
    return Guard(Single(AuthContextMiddleware(app), MCP_PATH), settings, tokens)


def _security(settings: Settings) -> TransportSecuritySettings:
    """Return what the SDK asks of Host and Origin: nothing that our guard, before it, lets pass is refused here."""
    hosts = Callers(settings.host_names, bound=settings.mcp_host_port[0]).hosts
    if hosts is None:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    names = sorted(f"[{name}]" if ":" in name else name for name in hosts)
    forms = [form for name in names for form in (name, f"{name}:*")]
    origins = [f"{scheme}://{form}" for scheme in ("http", "https") for form in forms]
    return TransportSecuritySettings(allowed_hosts=forms, allowed_origins=origins)
