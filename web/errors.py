"""Errors as clients see them: `{"error": code, "message": …, "field": …}` and the right status."""

from __future__ import annotations

import logging
from uuid import UUID

from flask import Flask, Response
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from llm_mcp.errors import (
    Conflict,
    InvalidInput,
    KeyReused,
    LlmMcpError,
    NotFound,
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
    (Unavailable, 503),
    (SetupError, 503),
)
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


def install(app: Flask) -> None:
    """Make every failure of the application answer in our shape."""
    app.register_error_handler(LlmMcpError, of_ours)
    app.register_error_handler(HTTPException, of_http)
    app.register_error_handler(Exception, of_nobody)


def body(error: LlmMcpError) -> dict[str, str]:
    """Return the JSON object for one of our errors."""
    shown = {"error": error.code, "message": str(error)}
    if isinstance(error, InvalidInput) and error.field:
        shown["field"] = error.field
    return shown


def of_ours(error: LlmMcpError) -> Response:
    """Map one of our errors."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers = {}
    if status == 503:
        headers["Retry-After"] = str(max(1, round(getattr(error, "retry_after_s", 1.0))))
    if status == 500:
        log.error("request failed", extra={"action": "request_failed", "code": error.code})
    return answer(body(error), status, headers)


def of_http(error: HTTPException) -> Response:
    """Map Werkzeug's own refusals (unknown path, wrong method, body too large)."""
    status = error.code or 500
    shown = {"error": _CODES.get(status, "bad_request"), "message": error.description or error.name}
    if isinstance(error, RequestEntityTooLarge):
        shown["field"] = "body"
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return answer(shown, status, headers)


def of_nobody(error: Exception) -> Response:
    """Map what nobody foresaw: the details go to the log, never to the client."""
    log.error("request failed", extra={"action": "request_failed", "error": type(error).__name__})
    return answer({"error": "internal_error", "message": "internal error"}, 500)


def job_id(text: str) -> UUID:
    """Return the job id of a path. Raises NotFound for anything but a lower-case UUID."""
    try:
        found = UUID(text)
    except ValueError:
        found = None
    if found is None or str(found) != text:
        raise NotFound("no such job")
    return found
