"""Durations as Ollama's callers write them: seconds, or Go's notation such as `1h30m`, `10m`, `250ms`."""

from __future__ import annotations

import math
import re
from typing import Any

from .wire import Refusal, go_type

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)")
_MAX_S = float(2**63 // 10**9)


def seconds(text: str) -> float:
    """Return the length of Go's duration `text`, s, negative with a minus sign.

    Raises Refusal 400 in Go's words.
    """
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    total, at = 0.0, 0
    while part := _PART.match(rest, at):
        number, unit = part.groups()
        if not unit:
            raise Refusal(400, f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise Refusal(400, f'time: unknown unit "{unit}" in duration "{text}"')
        total += float(number) * _UNITS[unit]
        at = part.end()
    if at == 0 or at != len(rest) or total > _MAX_S:
        raise Refusal(400, f'time: invalid duration "{text}"')
    return sign * total


def keep_alive(value: Any) -> float | None:
    """Return how long a model stays loaded, s: a negative wish means for ever (inf), None that there is no wish.

    Raises Refusal 400.
    """
    match value:
        case None:
            return None
        case bool():
            raise Refusal(400, "Unsupported type: 'bool'")
        case int() | float():
            length = float(value)
        case str():
            length = seconds(value)
        case _:
            raise Refusal(400, f"Unsupported type: '{go_type(value)}'")
    return math.inf if length < 0 else length
