"""The actors we ship: one short module per family of kinds.

from llm_mcp.actors import ollama
ollama.generate.submit(prompt="…")
"""

from __future__ import annotations

from . import batch, echo, ollama, openai, openrouter

__all__ = ["batch", "echo", "ollama", "openai", "openrouter"]
