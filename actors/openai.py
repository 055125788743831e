"""Jobs for OpenAI, and for any endpoint that speaks its dialect."""

from __future__ import annotations

from typing import Any

from llm_mcp.execution import call
from llm_mcp.kind_actor import actor
from llm_mcp.payloads import Chat, Embed
from llm_mcp.run import Run


@actor("openai.chat", payload=Chat)
def chat(payload: Chat, run: Run) -> dict[str, Any]:
    """Answer the last message of a chat."""
    return call(run, "openai", "chat", payload)


@actor("openai.embed", payload=Embed)
def embed(payload: Embed, run: Run) -> dict[str, Any]:
    """Turn texts into vectors."""
    return call(run, "openai", "embed", payload)
