"""Jobs for the models behind OpenRouter."""

from __future__ import annotations

from typing import Any

from llm_mcp.execution import call
from llm_mcp.kind_actor import actor
from llm_mcp.payloads import Chat
from llm_mcp.run import Run


@actor("openrouter.chat", payload=Chat)
def chat(payload: Chat, run: Run) -> dict[str, Any]:
    """Answer the last message of a chat."""
    return call(run, "openrouter", "chat", payload)
