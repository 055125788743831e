"""What every path answers to a method it does not have, and to `OPTIONS`."""

from __future__ import annotations

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, NotFound

# The endpoint of a door that answers for whatever path lies under its own is called so; it is no path's method.
_CATCH_ALL = ".unknown"
_OF_THE_SERVER = {"GET", "HEAD", "POST"}


def install(app: Flask) -> None:
    """Answer `OPTIONS` for every path there is, and have every 405 say the same methods."""
    app.before_request(_options)
    app.after_request(_complete)


def _options() -> Response | None:
    if request.method != "OPTIONS" or request.url_rule is not None:
        return None  # a path that answers any method answers this one itself
    methods = _OF_THE_SERVER if request.path in ("*", "/*") else _methods()
    if not methods:
        raise NotFound
    response = Response(status=204, headers={"Allow": _shown(methods)})
    del response.headers["Content-Type"]
    return response


def _complete(response: Response) -> Response:
    if response.status_code == 405 and (methods := _methods()):
        response.headers["Allow"] = _shown(methods)
    return response


def _methods() -> set[str]:
    """Return the methods that the request's path has."""
    adapter = current_app.create_url_adapter(request)
    if adapter is None:
        return set()
    found = set()
    for method in adapter.allowed_methods():
        try:
            endpoint, _ = adapter.match(method=method)
        except HTTPException:
            continue
        if not endpoint.endswith(_CATCH_ALL):
            found.add(method)
    return found


def _shown(methods: set[str]) -> str:
    return ", ".join(sorted(methods | {"OPTIONS"}))
