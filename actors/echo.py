"""The kind that answers with what it was given: for trying a set-up out."""

from __future__ import annotations

from typing import Any

from llm_mcp.kind_actor import actor


@actor("echo")
def echo(payload: Any) -> dict[str, Any]:
    """Return the payload, any JSON value, under `echo`."""
    return {"ok": True, "echo": payload}
