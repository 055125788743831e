"""Answers from outside the application: to what never becomes a request for it."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from . import request_id


class Refusal(NamedTuple):
    """What such a client is told; `retry_after_s`: when it may come again, s."""

    status: str
    code: str
    message: str
    retry_after_s: int | None = None


TOO_SLOW = Refusal("408 Request Timeout", "request_timeout", "the request did not arrive in time")
BROKE_OFF = Refusal("400 Bad Request", "bad_request", "the request broke off")
FULL = Refusal("503 Service Unavailable", "too_many_connections", "no place for another connection", 1)
NO_ROOM = Refusal("503 Service Unavailable", "server_busy", "too much is being sent at once", 1)
BUSY = Refusal("503 Service Unavailable", "server_busy", "every thread of this server has been busy for too long", 2)


def answer(refusal: Refusal, *, name: str, head: bytes = b"") -> bytes:
    """Return the whole answer, which ends the connection.

    Parameters: `name`, the request's id; `head`, what is there of the request's.
    """
    body = orjson.dumps({"error": refusal.code, "message": refusal.message})
    lines = [
        f"HTTP/1.1 {refusal.status}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"{request_id.HEADER}: {name}",
    ]
    if refusal.retry_after_s is not None:
        lines.append(f"Retry-After: {refusal.retry_after_s}")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head.startswith(b"HEAD ") else body)
