"""The wish to have a model think, as Ollama's callers write it."""

from __future__ import annotations

import json
from typing import Any

from .wire import Refusal

_LEVELS = ("high", "medium", "low", "max")


def think(value: Any) -> bool | str | None:
    """Return whether to think, or how hard; None when nothing is said.

    Raises Refusal 400.
    """
    if value is None or isinstance(value, bool):
        return value
    choice = f"{', '.join(json.dumps(level) for level in _LEVELS)}, true, or false"
    if not isinstance(value, str):
        raise Refusal(400, f"think must be a boolean or string ({choice})")
    if value not in _LEVELS:
        raise Refusal(400, f"invalid think value: {json.dumps(value)} (must be {choice})")
    return value
