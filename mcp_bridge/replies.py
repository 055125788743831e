"""How the plain paths answer: JSON, and errors as `{"error": code, "message": …, "field": …}` with the right status."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from llm_mcp.errors import (
    Conflict,
    InvalidInput,
    KeyReused,
    LlmMcpError,
    NotFound,
    QueueFull,
    TooLarge,
    Unavailable,
)

from .principal import current

# The first class that fits decides.
_STATUS: tuple[tuple[type[LlmMcpError], int], ...] = (
    (TooLarge, 413),
    (InvalidInput, 400),
    (NotFound, 404),
    (KeyReused, 422),
    (Conflict, 409),
    (QueueFull, 429),
    (Unavailable, 503),
)


class ScopeMissing(LlmMcpError):
    """The principal may not do this; `scope` is what it would need."""

    code = "insufficient_scope"

    def __init__(self, scope: str) -> None:
        super().__init__(f"the token is not allowed {scope}")
        self.scope = scope


def require(scope: str) -> None:
    """Raise ScopeMissing unless the principal of this request is allowed `scope`."""
    if scope not in current().scopes:
        raise ScopeMissing(scope)


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(value), status, headers, "application/json")


def error_body(error: LlmMcpError) -> dict[str, str]:
    """Return what a client is told of an error."""
    body = {"error": error.code, "message": str(error)}
    if isinstance(error, InvalidInput) and error.field:
        body["field"] = error.field
    return body


def of_error(error: LlmMcpError) -> Response:
    """Return the answer for an error of ours."""
    headers = {}
    if isinstance(error, ScopeMissing):
        headers["www-authenticate"] = f'Bearer realm="llm-mcp", error="insufficient_scope", scope="{error.scope}"'
        return answer(error_body(error), 403, headers)
    if isinstance(error, QueueFull | Unavailable):
        headers["retry-after"] = str(math.ceil(error.retry_after_s))
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return answer(error_body(error), status, headers)
