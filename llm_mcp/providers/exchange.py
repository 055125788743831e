"""One call of an API: send JSON, and have every refusal turned into the error it means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import orjson

from llm_mcp.errors import ProviderError
from llm_mcp.http import Answer, Wire
from llm_mcp.strictjson import dumps_lossy

from . import faults

_MAX_ERROR_BYTES = 256 * 2**10


@contextmanager
def asking(
    wire: Wire,
    provider: str,
    url: str,
    body: Mapping[str, Any] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    secrets: Iterable[str] = (),
) -> Iterator[Answer]:
    """Call `url` (POST when there is a `body`, else GET) and give the answer, which is a success (2xx).

    `secrets` are texts that no error may repeat. Raises ProviderError for any other status, and as `Wire.request`.
    """
    method, sent = ("GET", None) if body is None else ("POST", dumps_lossy(body).encode())
    with wire.request(method, url, headers=headers, body=sent) as answer:
        if not 200 <= answer.status < 300:
            raise faults.refusal(provider, answer.status, answer.headers, _start_of(answer), secrets=secrets)
        yield answer


def parsed(provider: str, text: bytes) -> dict[str, Any]:
    """Return the JSON object a provider sent.

    Half characters, which some send when they cut a stream between two bytes, are let through. Raises ProviderError
    `broken_stream` for anything but an object.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(text.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise faults.broken(provider, "what came is not JSON") from None
    if not isinstance(value, dict):
        raise faults.broken(provider, "what came is not a JSON object")
    return value


def count(value: Any) -> int:
    """Return a number of tokens as a provider gave it, 0 for anything that is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _start_of(answer: Answer) -> bytes:
    """Return enough of an error's body to understand it."""
    body = bytearray()
    with suppress(ProviderError):  # what did arrive, and the status, say more than how the rest was lost
        for line in answer.lines():
            body += line + b"\n"
            if len(body) > _MAX_ERROR_BYTES:
                break
    return bytes(body)
