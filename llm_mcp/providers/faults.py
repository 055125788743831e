"""What a provider's refusal means: our word for it, whether another try may help, and when.

Pure: from a status, headers and body (or an error that came in the middle of a stream) to one ProviderError. The first
row that fits decides: the provider's own words, then what its message says where its status says too little, then the
status. What it says about retrying itself is heard last and wins.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import responses
from typing import Any, NamedTuple

import orjson

from llm_mcp.errors import ProviderError

_MAX_WORDS = 300
_ECHO = 24
"""Characters of a prompt in an error message that count as a repetition of it."""


class Fate(NamedTuple):
    """Our word for a class of errors, and whether another try may help."""

    code: str
    retryable: bool


_BAD = Fate("bad_request", False)
_UNAUTHORIZED = Fate("unauthorized", False)
_QUOTA = Fate("quota", False)
_NOT_FOUND = Fate("not_found", False)
_RATE = Fate("rate_limited", True)
_OVERLOADED = Fate("overloaded", True)
_TIMEOUT = Fate("timeout", True)
_FAILED = Fate("provider_failed", True)

WORDS: Mapping[str, Fate] = {
    **dict.fromkeys(["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"], _QUOTA),
    **dict.fromkeys(["payment_required", "token_limit_exceeded"], _QUOTA),
    **dict.fromkeys(["invalid_api_key", "authentication", "authentication_error"], _UNAUTHORIZED),
    **dict.fromkeys(["permission_denied", "permission_error"], _UNAUTHORIZED),
    **dict.fromkeys(["model_not_found", "not_found", "not_found_error"], _NOT_FOUND),
    **dict.fromkeys(["context_length_exceeded", "exceed_context_size_error", "max_tokens_exceeded"], _BAD),
    **dict.fromkeys(["string_too_long", "payload_too_large", "precondition_failed", "unprocessable"], _BAD),
    **dict.fromkeys(["invalid_request", "invalid_prompt", "unsupported_parameter", "unsupported_value"], _BAD),
    **dict.fromkeys(["content_policy_violation", "content_filter", "refusal"], _BAD),
    **dict.fromkeys(["invalid_image", "image_too_large", "image_too_small", "unsupported_image_format"], _BAD),
    **dict.fromkeys(["image_not_found", "not_supported_error"], _BAD),
    **dict.fromkeys(["rate_limit_exceeded", "rate_limit_error"], _RATE),
    **dict.fromkeys(["provider_overloaded", "provider_unavailable"], _OVERLOADED),
    **dict.fromkeys(["overloaded_error", "unavailable_error"], _OVERLOADED),
    "timeout": _TIMEOUT,
    "image_download_failed": _FAILED,
}
"""By the error's `metadata.error_type`, `code` or `type`, in this order."""

MESSAGES: tuple[tuple[re.Pattern[str], Fate], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), fate)
    for pattern, fate in (
        (r'^option "[^"]*" must be', _BAD),
        (r"^invalid format\b", _BAD),
        (r"failed to parse grammar", _BAD),
        (r"\bdoes not support\b", _BAD),
        (r"\bexceeds? the (available |maximum )?context (size|length|window)", _BAD),
        (r"^model ['\"].*['\"] not found", _NOT_FOUND),
        (r"requires more system memory", _OVERLOADED),
    )
)
"""By the message, where the status blames the server or there is none: Ollama answers 500 to some callers' mistakes."""

STATUSES: Mapping[int, Fate] = {
    401: _UNAUTHORIZED,
    402: _QUOTA,
    403: _UNAUTHORIZED,
    404: _NOT_FOUND,
    408: _TIMEOUT,
    409: _FAILED,
    410: _NOT_FOUND,
    429: _RATE,
    501: _BAD,
    503: _OVERLOADED,
    504: _TIMEOUT,
    524: _TIMEOUT,
    529: _OVERLOADED,
}
"""By HTTP status; else 4xx is the caller's mistake, 5xx the server's, and anything below no answer of this API."""

_VAGUE_WORDS: Mapping[str, Fate] = {"invalid_request_error": _BAD, "bad_request": _BAD}
"""Words that say less than a status, heard when there is none."""


def refusal(
    provider: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Iterable[str] = (),
    now: datetime | None = None,
) -> ProviderError:
    """Return the error for an answer that is not a success.

    Parameters: `headers` with names in lower case; `secrets`, texts the message must not repeat (prompts, the key);
    `now`, for a Retry-After that is a date.
    """
    error = _error_in(body)
    return _judge(provider, error, status=status, headers=headers, secrets=secrets, now=now or datetime.now(UTC))


def complaint(provider: str, error: Any, *, secrets: Iterable[str] = ()) -> ProviderError:
    """Return the error for one that came inside a successful answer: the value of its `error` field."""
    return _judge(provider, error, status=None, headers={}, secrets=secrets, now=datetime.now(UTC))


def broken(provider: str, words: str) -> ProviderError:
    """Return the error for an answer that makes no sense or stops before its end."""
    return ProviderError(f"{provider}: {words}", retryable=True, code="broken_stream")


def _judge(
    provider: str,
    error: Any,
    *,
    status: int | None,
    headers: Mapping[str, str],
    secrets: Iterable[str],
    now: datetime,
) -> ProviderError:
    error = _unwrapped(error)
    fields = error if isinstance(error, dict) else {}
    metadata = _dict(fields.get("metadata"))
    said = status if status is not None else _status_in(fields.get("code"))
    message = _message(error)
    names = [metadata.get("error_type"), fields.get("code"), fields.get("type")]
    fate = _fate(said, [name for name in names if isinstance(name, str)], message)
    wish = _wish(headers, _dict(fields.get("availability")))
    retryable = fate.retryable if wish is None else wish
    return ProviderError(
        _words(provider, status, message, secrets),
        retryable=retryable,
        code=fate.code,
        status=said,
        retry_after_s=_retry_after_s(headers, fields, now) if retryable else None,
    )


def _fate(status: int | None, names: list[str], message: str) -> Fate:
    for name in names:
        if name in WORDS:
            return WORDS[name]
    if status is None or status >= 500:
        for pattern, fate in MESSAGES:
            if pattern.search(message):
                return fate
    if status is None:
        return next((_VAGUE_WORDS[name] for name in names if name in _VAGUE_WORDS), _FAILED)
    if status in STATUSES:
        return STATUSES[status]
    if status >= 500:
        return _FAILED
    return _BAD if status >= 400 else Fate("provider_failed", False)


def _wish(headers: Mapping[str, str], availability: dict[str, Any]) -> bool | None:
    """Return what the provider itself says about trying again, None when it says nothing."""
    header = headers.get("x-should-retry")
    if header in ("true", "false"):
        return header == "true"
    said = availability.get("retryable")
    return said if isinstance(said, bool) else None


def _retry_after_s(headers: Mapping[str, str], error: dict[str, Any], now: datetime) -> float | None:
    milliseconds = _seconds(headers.get("retry-after-ms"), now)
    if milliseconds is not None:
        return milliseconds / 1000
    metadata = _dict(error.get("metadata"))
    upstream = {str(name).lower(): value for name, value in _dict(metadata.get("headers")).items()}
    for value in (
        headers.get("retry-after"),
        metadata.get("retry_after_seconds"),
        _dict(error.get("availability")).get("retry_after"),
        upstream.get("retry-after"),
    ):
        seconds = _seconds(value, now)
        if seconds is not None:
            return seconds
    return None


def _seconds(value: Any, now: datetime) -> float | None:
    """Return a wait of `Retry-After` form, a number or an HTTP date, in its own unit; None when it is neither."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        try:
            number = (parsedate_to_datetime(str(value)) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
        return max(number, 0.0)
    return number if math.isfinite(number) and number >= 0 else None


def _error_in(body: bytes) -> Any:
    """Return the error a body carries: its `error` field, its `message` or `detail`, or its plain text."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body[: 4 * _MAX_WORDS].decode("utf-8", "replace").strip()
        return "" if text.startswith("<") else text
    if isinstance(parsed, dict):
        return next((parsed[name] for name in ("error", "message", "detail") if parsed.get(name)), "")
    return ""


def _unwrapped(error: Any) -> Any:
    """Return the innermost error: Ollama passes its engine's on as JSON inside a string."""
    for _ in range(3):
        if not (isinstance(error, str) and error.startswith("{")):
            break
        inner = _error_in(error.encode("utf-8", "replace"))
        if not inner:
            break
        error = inner
    return error


def _message(error: Any) -> str:
    text = error.get("message") if isinstance(error, dict) else error
    return " ".join(text.split()) if isinstance(text, str) else ""


def _words(provider: str, status: int | None, message: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        start = " ".join(secret.split())[:_ECHO]
        if len(start) >= _ECHO // 2 and start in message:
            message = message[: message.index(start)] + "…"
    message = message if len(message) <= _MAX_WORDS else message[:_MAX_WORDS] + "…"
    if status is None:
        return f"{provider}: {message or 'an error without words'}"
    if 300 <= status < 400:
        message = "a redirect, which is not followed: set the base URL to the final address"
    return f"{provider} answered {status}: {message or responses.get(status, 'no words')}"


def _status_in(code: Any) -> int | None:
    """Return an error's `code` when it is an HTTP status of an error."""
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    return code if isinstance(code, int) and 400 <= code <= 599 else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
