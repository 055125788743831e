"""Jobs for the models behind OpenRouter."""

from __future__ import annotations

from typing import Any

from llm_mcp.execution import call
from llm_mcp.kind_actor import actor
from llm_mcp.payloads import Chat, Embed
from llm_mcp.run import Run


@actor("openrouter.chat", payload=Chat)
def chat(payload: Chat, run: Run) -> dict[str, Any]:
    """Answer the last message of a chat."""
    return call(run, "openrouter", "chat", payload)


@actor("openrouter.embed", payload=Embed)
def embed(payload: Embed, run: Run) -> dict[str, Any]:
    """Turn texts into vectors."""
    return call(run, "openrouter", "embed", payload)
