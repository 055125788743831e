"""Jobs for models on machines that speak Ollama."""

from __future__ import annotations

from typing import Any

from llm_mcp.execution import call
from llm_mcp.kind_actor import actor
from llm_mcp.payloads import Chat, Embed, Generate
from llm_mcp.run import Run


@actor("ollama.generate", payload=Generate)
def generate(payload: Generate, run: Run) -> dict[str, Any]:
    """Complete a prompt."""
    return call(run, "ollama", "generate", payload)


@actor("ollama.chat", payload=Chat)
def chat(payload: Chat, run: Run) -> dict[str, Any]:
    """Answer the last message of a chat."""
    return call(run, "ollama", "chat", payload)


@actor("ollama.embed", payload=Embed)
def embed(payload: Embed, run: Run) -> dict[str, Any]:
    """Turn texts into vectors."""
    return call(run, "ollama", "embed", payload)
