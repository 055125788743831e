"""The header `Idempotency-Key`: the same request again gets the first one's job."""

from __future__ import annotations

from flask import request

from llm_mcp.errors import InvalidInput

KEY = "Idempotency-Key"
_MAX_KEY_CHARS = 255


def idempotency_key() -> str | None:
    """Return the current request's key, None without one.

    Two headers arrive joined by a comma: which of them is meant nobody can tell. Raises InvalidInput.
    """
    key = request.headers.get(KEY)
    if key is None:
        return None
    if not (1 <= len(key) <= _MAX_KEY_CHARS and key.isascii() and key.isprintable() and "," not in key):
        raise InvalidInput(
            f"must be one header of 1 to {_MAX_KEY_CHARS} printable ASCII characters without a comma", field=KEY
        )
    return key
