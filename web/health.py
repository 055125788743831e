"""Is anybody there?"""

from __future__ import annotations

from flask import Flask, Response
from werkzeug.routing import Rule

from llm_mcp.config import installed_version

from .reply import answer


def install(app: Flask) -> None:
    """Serve `/health` and `/version` for every method there is, which Flask's own routes cannot."""
    for path in ("/health", "/version"):
        app.url_map.add(Rule(path, endpoint="health"))
    app.view_functions["health"] = health


def health() -> Response:
    """Say that this process answers; touches nothing else."""
    return answer({"status": "ok", "version": installed_version()})
