"""A kind that prints far more than a pipe holds, and a module that prints when it is imported."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from llm_mcp import actor

print("chatty is here")


class Chatty(BaseModel):
    """How many lines to print."""

    lines: int


@actor("test.chatty", payload=Chatty)
def chatty(payload: Chatty) -> dict[str, Any]:
    """Print and return."""
    for _ in range(payload.lines):
        print("x" * 100)
    return {"ok": True}
