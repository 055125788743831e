"""Is anybody there, and can they do their work?"""

from __future__ import annotations

from flask import Flask, Response, current_app
from werkzeug.routing import Rule

from llm_mcp.config import installed_version
from llm_mcp.readiness import Readiness
from llm_mcp.runtime import Runtime

from .reply import answer
from .streams import streams

_LOOK_S = 1.0


def install(app: Flask, runtime: Runtime) -> None:
    """Serve `/health`, `/version`, `/livez` and `/readyz` for every method there is, which Flask's routes cannot."""
    app.extensions["readiness"] = Readiness(runtime)
    for path, view in (("/health", health), ("/version", health), ("/livez", health), ("/readyz", ready)):
        app.url_map.add(Rule(path, endpoint=view.__name__))
        app.view_functions[view.__name__] = view


def health() -> Response:
    """Say that this process answers; touches nothing else."""
    return answer({"status": "ok", "version": installed_version()})


def ready() -> Response:
    """Say whether this process can do its work; 503 with the reasons when it cannot. Takes a second at most."""
    readiness: Readiness = current_app.extensions["readiness"]
    if streams().draining.is_set():
        reasons = {"draining": "this process is about to stop"}
    else:
        reasons = readiness.reasons(timeout_s=_LOOK_S)
    if not reasons:
        return answer({"status": "ready", "version": installed_version()})
    shown = {"error": "not_ready", "message": "; ".join(reasons.values()), "reasons": sorted(reasons)}
    return answer(shown, 503, {"Retry-After": "1"})
