"""Chat messages in the form Ollama takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson


def native_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chat message in Ollama's form.

    A list of parts, as other dialects have it, becomes its text and its images (those given as data, not by address);
    a tool call's arguments become an object where they are JSON text.
    """
    native = {name: value for name, value in message.items() if value is not None}
    parts = message.get("content")
    if isinstance(parts, list):
        native["content"] = "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))
        images = [image for part in parts if (image := _image(part))]
        if images:
            native["images"] = [*(message.get("images") or []), *images]
    if isinstance(message.get("tool_calls"), list):
        native["tool_calls"] = [_tool_call(call) for call in message["tool_calls"]]
    return native


def _image(part: Mapping[str, Any]) -> str | None:
    """Return the base64 text of an image part given as a `data:` address, None for any other part."""
    address = part.get("image_url")
    if isinstance(address, dict):
        address = address.get("url")
    if not isinstance(address, str) or not address.startswith("data:"):
        return None
    return address.partition(",")[2]


def _tool_call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = orjson.loads(function["arguments"] or "{}")
    except orjson.JSONDecodeError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}
