"""What every path answers to a method it does not have, and to `OPTIONS`."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Flask, Response, request
from werkzeug.exceptions import MethodNotAllowed


def install(app: Flask) -> None:
    """Answer `OPTIONS` for every path there is, and have every 405 say the same methods."""
    app.before_request(_options)
    app.after_request(_complete)


def _options() -> Response | None:
    if request.method != "OPTIONS" or request.url_rule is not None:
        return None  # a path that answers any method answers this one itself
    if request.path in ("*", "/*"):
        return Response(status=204, headers={"Allow": "GET, HEAD, OPTIONS, POST"})
    if isinstance(request.routing_exception, MethodNotAllowed):
        return Response(status=204, headers={"Allow": _with_options(request.routing_exception.valid_methods or ())})
    return None


def _complete(response: Response) -> Response:
    if response.status_code == 405 and "Allow" in response.headers:
        response.headers["Allow"] = _with_options(response.headers["Allow"].split(", "))
    return response


def _with_options(methods: Iterable[str]) -> str:
    return ", ".join(sorted({*methods, "OPTIONS"}))
