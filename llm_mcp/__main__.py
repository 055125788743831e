"""`python -m llm_mcp` is `llm-mcp`."""

from __future__ import annotations

from .cli import main

main()
