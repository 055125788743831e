"""Names that tools had before: still callable, and listed nowhere."""

from __future__ import annotations

from typing import Final

ALIASES: Final = {"llm_request": "llm_chat", "llm_model_stats": "llm_models"}
"""What is called now, by what it was called."""


def now_called(name: str) -> str:
    """Return the name of a tool today."""
    return ALIASES.get(name, name)
