"""What an MCP SDK's own objects hold, of whichever version: its names changed from camelCase to snake_case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def field(thing: Any, *names: str) -> Any:
    """Return the first of these fields that the thing has."""
    for name in names:
        if hasattr(thing, name):
            return getattr(thing, name)
    raise AttributeError(f"{type(thing).__name__} has none of {names}")


def answer(result: Any) -> dict[str, Any]:
    """Return what a CallToolResult says."""
    return {
        "failed": bool(field(result, "isError", "is_error")),
        "texts": [block.text for block in result.content if block.type == "text"],
        "structured": field(result, "structuredContent", "structured_content"),
    }


def tools(listed: Sequence[Any]) -> list[dict[str, Any]]:
    """Return what is listed of tools."""
    return [
        {
            "name": tool.name,
            "description": tool.description,
            "parameters": field(tool, "inputSchema", "input_schema"),
        }
        for tool in listed
    ]


def text(contents: Sequence[Any]) -> str:
    """Return the text of a resource's contents."""
    return "".join(one.text for one in contents)


def words(messages: Sequence[Any]) -> str:
    """Return the text of a prompt's messages."""
    return "\n".join(message.content.text for message in messages)
