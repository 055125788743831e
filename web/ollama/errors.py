"""Errors in Ollama's shape, `{"error": "its words"}`, with the status Ollama gives them.

Where Ollama answers 500 to a caller's mistake, we answer 400: a client that tries again after a 500 is right to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from flask import Blueprint, Response
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped] # gunicorn ships no types
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from llm_mcp.calls import CallFailed, CallTimeout
from llm_mcp.errors import (
    Conflict,
    InvalidInput,
    KeyReused,
    LlmMcpError,
    NotFound,
    QueueFull,
    SetupError,
    TooLarge,
    Unavailable,
)
from llm_mcp.job import Reason
from llm_mcp.ollama_words.wire import Refusal

from .. import errors as ours
from ..calls import JOB, Draining, Lost

_JSON = "application/json; charset=utf-8"
# What our providers put before the words of a device.
_BEFORE = re.compile(r"[a-z]+(?: answered [0-9]{3})?: ")
_CANCELLED = 499
_NOT_IMPLEMENTED = 501

_PLAIN: tuple[tuple[type[LlmMcpError], int], ...] = (
    (NotFound, 404),
    (KeyReused, 422),
    (Conflict, 409),
    (QueueFull, 429),
    (SetupError, 503),
)


class Told(NamedTuple):
    """An error as the client gets it: HTTP status, words and headers."""

    status: int
    words: str
    headers: dict[str, str]


class Called(NamedTuple):
    """What a model is called: by the device, and by the client, who is told of it by that name."""

    there: str
    here: str


def install(blueprint: Blueprint) -> None:
    """Make every failure of the blueprint's routes answer in this shape."""
    for kind in (Refusal, LlmMcpError, HTTPException, ParseException, Exception):
        blueprint.register_error_handler(kind, refused)


def say(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer with Ollama's content type."""
    return Response(orjson.dumps(value), status=status, headers=headers, content_type=_JSON)


def refused(error: Exception, called: Called | None = None) -> Response:
    """Map any error to its answer."""
    told = tell(error, called)
    return say({"error": told.words}, told.status, told.headers)


def tell(error: Exception, called: Called | None = None) -> Told:
    """Return what the client is told of an error; what nobody foresaw goes to the log."""
    match error:
        case Refusal():
            return Told(error.status, error.text, {})
        case CallFailed():
            return _of_call(error, called)
        case CallTimeout():
            return Told(504, f"{error}: GET /v1/jobs/{error.job_id}", {JOB: str(error.job_id)})
        case Draining():
            return Told(503, str(error), {JOB: str(error.job_id)})
        case Lost():
            return Told(500, str(error), {JOB: str(error.job_id)})
        case TooLarge() | RequestEntityTooLarge():
            return Told(413, "request body too large", {})
        case InvalidInput():
            field = error.field.removeprefix("payload").removeprefix(".")
            return Told(400, f"{field}: {error}" if field else str(error), {})
        case QueueFull() | Unavailable():
            words = str(error) if isinstance(error, QueueFull) or error.code != "unavailable" else ours.words(error)
            return Told(
                429 if isinstance(error, QueueFull) else 503,
                words,
                {"Retry-After": str(max(1, round(error.retry_after_s)))},
            )
        case ParseException():
            return Told(400, "invalid chunk", {})
        case HTTPException():
            return Told(error.code or 500, error.name.lower(), {})
    for kind, status in _PLAIN:
        if isinstance(error, kind):
            return Told(status, str(error), {})
    ours.unforeseen(error)
    return Told(500, "internal error", {})


def words_of(error: LlmMcpError, called: Called | None = None) -> str:
    """Return a provider's error in the words the device itself said, of the model by the name the client gave it."""
    words = _BEFORE.sub("", str(error), count=1) if _BEFORE.match(str(error)) else str(error)
    if called is not None:
        for quote in ('"', "'"):
            words = words.replace(quote + called.there + quote, quote + called.here + quote)
    return words


def status_of(code: str | None, status: int | None) -> int:
    """Return the HTTP status for a provider's refusal: `code`, our word for it; `status`, its own."""
    match code:
        case "bad_request":
            return status if status is not None and (status < 500 or status == _NOT_IMPLEMENTED) else 400
        case "not_found":
            return 404
        case "unauthorized":
            return status or 503
        case "quota":
            return status or 429
        case "rate_limited":
            return 429
        case "overloaded":
            return 503
    return status if status is not None and status >= 500 else 502


def _of_call(error: CallFailed, called: Called | None) -> Told:
    """Return what is told of a job that ended in error: of a provider's refusal, what the provider said."""
    headers = {JOB: str(error.job_id)}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    words = words_of(error, called)
    match error.reason:
        case Reason.CANCELLED:
            return Told(_CANCELLED, "request canceled", headers)
        case Reason.DEADLINE_EXCEEDED:
            return Told(504, words, headers)
        case Reason.FAILED if error.provider_code is not None:
            return Told(status_of(error.provider_code, error.status), words, headers)
    return Told(500, words, headers)
