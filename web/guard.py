"""Who may be calling, asked of every request before anything else is done with it."""

from __future__ import annotations

from flask import Flask, Response, current_app, request

from llm_mcp.callers import Guard
from llm_mcp.config import Settings

from .reply import answer


def install(app: Flask, settings: Settings) -> None:
    """Have every request looked at: its Host, and its Origin. `allowed_hosts` names further hosts."""
    app.extensions["guard"] = Guard(settings.host_names, bound=settings.http_host_port[0])
    app.before_request(_look)


def _look() -> Response | None:
    guard: Guard = current_app.extensions["guard"]
    refused = guard.refusal(request.headers.get("Host", "localhost"), request.headers.get("Origin"))
    return None if refused is None else answer(refused[1], refused[0])
