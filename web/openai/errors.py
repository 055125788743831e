"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.

One that a job ended in names it in the header `x-llm-mcp-job`, and says `x-should-retry: false`: the job was tried
already, and a client that sends its request again would have a second one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flask import Blueprint, Response, request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped] # gunicorn ships no types
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from llm_mcp.calls import CallFailed, CallTimeout
from llm_mcp.errors import (
    Conflict,
    InvalidInput,
    KeyReused,
    LlmMcpError,
    ModelNotFound,
    NoProvider,
    NotFound,
    QueueFull,
    SetupError,
    TooLarge,
    Unavailable,
)
from llm_mcp.job import Reason

from .. import errors as ours
from ..calls import JOB, Draining, Lost
from ..reply import answer

_DO_NOT_RETRY = {"x-should-retry": "false"}
_PATHS = ("/v1/batches", "/v1/chat/", "/v1/completions", "/v1/embeddings", "/v1/files", "/v1/models", "/v1/responses")

# What a job's failure is called where the provider itself is to blame, by the job's kind.
_BROKEN = {
    "ollama.chat": "ollama_chat_failed",
    "ollama.generate": "ollama_chat_failed",
    "ollama.embed": "embed_failed",
    "openai.embed": "cloud_embed_failed",
    "openrouter.embed": "cloud_embed_failed",
}
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    402: "insufficient_quota",
    429: "rate_limit_error",
}
_REASONS = {
    Reason.CANCELLED: (409, "invalid_request_error"),
    Reason.DEADLINE_EXCEEDED: (504, "server_error"),
}


class Told(NamedTuple):
    """An error as the client gets it: HTTP status, body and headers."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def install(blueprint: Blueprint) -> None:
    """Make every failure of a blueprint's routes answer in this shape."""
    for kind in (LlmMcpError, HTTPException, ParseException, Exception):
        blueprint.register_error_handler(kind, refused)
    blueprint.app_errorhandler(MethodNotAllowed)(_wrong_method)


def refused(error: Exception) -> Response:
    """Map any error to its answer."""
    told = tell(error)
    if isinstance(error, TooLarge):
        ours.of_ours(error)  # takes what is left of the body: a client that still sends would not hear us
    elif isinstance(error, RequestEntityTooLarge):
        ours.of_http(error)  # as above
    return answer(told.body, told.status, told.headers)


def shape(message: str, kind: str, *, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """Return an error object; `kind` is its `type`."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def tell(error: Exception) -> Told:
    """Return what the client is told of an error; what nobody foresaw goes to the log."""
    match error:
        case CallFailed():
            return _of_call(error)
        case CallTimeout():
            return _told(504, "server_error", error, {**_DO_NOT_RETRY, JOB: str(error.job_id)}, code="call_timeout")
        case Draining():
            return _told(503, "server_error", error, {**_DO_NOT_RETRY, JOB: str(error.job_id)})
        case Lost():
            return _told(500, "server_error", error, {**_DO_NOT_RETRY, JOB: str(error.job_id)})
        case TooLarge():
            return _told(413, "invalid_request_error", error, code="body_too_large")
        case InvalidInput():
            field = error.field.removeprefix("payload").removeprefix(".")
            words = f"{field}: {error}" if field else str(error)
            return Told(400, shape(words, "invalid_request_error", code=error.code, param=field or None), {})
        case NotFound():
            param = "model" if isinstance(error, ModelNotFound) else None
            return Told(404, shape(str(error), "invalid_request_error", code=error.code, param=param), {})
        case KeyReused():
            return _told(422, "invalid_request_error", error, _DO_NOT_RETRY)
        case Conflict():
            return _told(409, "invalid_request_error", error, _DO_NOT_RETRY)
        case QueueFull():
            return _told(429, "rate_limit_error", error, _later(error.retry_after_s))
        case NoProvider():
            never = _DO_NOT_RETRY if error.code == "no_api_key" else {}
            return _told(503, "server_error", error, {**_later(error.retry_after_s), **never})
        case Unavailable():
            body = shape(ours.words(error), "server_error", code=error.code)
            return Told(503, body, _later(error.retry_after_s))
        case SetupError():
            return _told(503, "server_error", error)
        case HTTPException():
            return _of_http(error)
        case ParseException():
            body = shape("the body is not chunked as HTTP wants it", "invalid_request_error", code="bad_request")
            return Told(400, body, {})
    ours.unforeseen(error)
    return Told(500, shape("internal error", "server_error", code="internal_error"), {})


def _told(
    status: int, kind: str, error: LlmMcpError, headers: Mapping[str, str] | None = None, *, code: str = ""
) -> Told:
    return Told(status, shape(str(error), kind, code=code or error.code), dict(headers or {}))


def _later(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(max(1, round(seconds)))}


def _of_call(error: CallFailed) -> Told:
    """Return what is told of a job that ended in error: of a provider's refusal, what the provider said."""
    status, kind, param = 502, "server_error", None
    code: str = _BROKEN.get(error.kind, "cloud_chat_failed")
    said = error.status if error.status is not None and 400 <= error.status < 500 else None
    if error.reason != Reason.FAILED:
        status, kind = _REASONS.get(Reason(error.reason), (500, "server_error"))
        code = error.reason
    match error.provider_code:
        case None if error.reason == Reason.FAILED:
            status, code = 500, "job_failed"
        case "bad_request":
            status, kind, code = said or 400, "invalid_request_error", "bad_request"
        case "not_found":
            status, kind, code, param = 404, "invalid_request_error", "model_not_found", "model"
        case "unauthorized" if error.status is None:
            status, code = 503, "no_api_key"
        case "unauthorized":
            status, code = said or 401, "invalid_api_key"
        case "quota":
            status, kind, code = said or 429, "insufficient_quota", "insufficient_quota"
        case "rate_limited":
            status, code = 429, "rate_limit_exceeded"
        case "overloaded":
            status, code = 503, "overloaded"
    headers = {**_DO_NOT_RETRY, **_later(error.retry_after_s), JOB: str(error.job_id)}
    return Told(status, shape(str(error), _TYPES.get(status, kind), code=code, param=param), headers)


def _of_http(error: HTTPException) -> Told:
    name = error.name.lower()
    code = "body_too_large" if isinstance(error, RequestEntityTooLarge) else name.replace(" ", "_")
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return Told(error.code or 500, shape(name, "invalid_request_error", code=code), headers)


def _wrong_method(error: MethodNotAllowed) -> Response:
    """A wrong method reaches no route of the blueprint: whose path it was decides the shape."""
    return refused(error) if request.path.startswith(_PATHS) else ours.of_http(error)
