"""Errors as clients see them: `{"error": code, "message": …, "field": …}` and the right status.

What a client sent is never repeated to it, nor to the log; nor does it learn where our database is.
"""

from __future__ import annotations

import logging
import traceback

from flask import Flask, Response
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped] # gunicorn ships no types
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from llm_mcp.errors import (
    Conflict,
    InvalidInput,
    KeyReused,
    LlmMcpError,
    NoProvider,
    NotFound,
    QueueFull,
    SetupError,
    TooLarge,
    Unavailable,
)

from .reply import answer

log = logging.getLogger(__name__)

# The first class that fits decides; SetupError is a server that lacks its database.
_STATUS: tuple[tuple[type[LlmMcpError], int], ...] = (
    (TooLarge, 413),
    (InvalidInput, 400),
    (NotFound, 404),
    (KeyReused, 422),
    (Conflict, 409),
    (QueueFull, 429),
    (Unavailable, 503),
    (SetupError, 503),
)
_HTTP = {
    400: ("bad_request", "the request could not be read"),
    404: ("not_found", "no such path"),
    405: ("method_not_allowed", "not with this method"),
    413: ("body_too_large", "the body is over the limit"),
}


class Full(Unavailable):
    """Every place for a stream is taken."""

    code = "too_many_streams"


def install(app: Flask) -> None:
    """Make every failure of the application answer in our shape."""
    app.register_error_handler(LlmMcpError, of_ours)
    app.register_error_handler(HTTPException, of_http)
    app.register_error_handler(ParseException, of_parser)
    app.register_error_handler(Exception, of_nobody)


def body(error: LlmMcpError) -> dict[str, str]:
    """Return the JSON object for one of our errors."""
    shown = {"error": error.code, "message": words(error)}
    if isinstance(error, InvalidInput) and error.field:
        shown["field"] = error.field
    return shown


def words(error: LlmMcpError) -> str:
    """Return an error's text for a client; that of a missing database is for the log only, for it names its host."""
    if isinstance(error, Unavailable) and not isinstance(error, Full | NoProvider):
        log.warning("the database is away", extra={"action": "database_away", "error": str(error)})
        return "the database does not answer; ask again"
    return str(error)


def of_ours(error: LlmMcpError) -> Response:
    """Map one of our errors."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if status == 500:
        return of_nobody(error)
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(max(1, round(getattr(error, "retry_after_s", 1.0))))
    return answer(body(error), status, headers)


def of_http(error: HTTPException) -> Response:
    """Map Werkzeug's own refusals (unknown path, wrong method, body too large or broken off)."""
    status = error.code or 500
    code, message = _HTTP.get(status, ("bad_request", error.name.lower()))
    shown = {"error": code, "message": message}
    if isinstance(error, RequestEntityTooLarge):
        shown["field"] = "body"
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return answer(shown, status, headers)


def of_parser(_error: ParseException) -> Response:
    """Map a body that breaks the rules of chunked transfer."""
    return answer({"error": "bad_request", "message": "the body is not chunked as HTTP wants it", "field": "body"}, 400)


def of_nobody(error: Exception) -> Response:
    """Map what nobody foresaw: where it happened goes to the log, nothing to the client."""
    unforeseen(error)
    return answer({"error": "internal_error", "message": "internal error"}, 500)


def unforeseen(error: BaseException) -> None:
    """Log an error without its text, which may quote what the client sent."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("request failed", extra={"action": "request_failed", "error": type(error).__name__, "where": where})
