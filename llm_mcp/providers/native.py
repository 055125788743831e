"""Between OpenAI's dialect, which payloads are written in, and Ollama's own: messages, wishes, calls of tools."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from llm_mcp.answers import whole_calls

# OpenAI's names for what goes out under a name of Ollama's, or is no matter of a provider.
_SAID_OTHERWISE = ("max_completion_tokens", "reasoning_effort", "response_format", "tool_choice", "parallel_tool_calls")


def native_wishes(body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a request with OpenAI's wishes in Ollama's words.

    Ollama cannot be made to call a tool: of `tool_choice` it can be told that it must not, or which one there is.
    """
    native = {name: value for name, value in body.items() if name not in _SAID_OTHERWISE}
    form = _format(body.get("response_format"))
    if form is not None:
        native.setdefault("format", form)
    effort = body.get("reasoning_effort")
    if isinstance(effort, str):
        native.setdefault("think", {"none": False, "minimal": "low", "xhigh": "max"}.get(effort, effort))
    choice = body.get("tool_choice")
    if choice == "none":
        native.pop("tools", None)
    elif isinstance(choice, dict) and isinstance(native.get("tools"), list):
        wanted = _name(choice)
        native["tools"] = [tool for tool in native["tools"] if wanted is None or _name(tool) == wanted]
    return native


def native_messages(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages of a chat in Ollama's form; the result of a tool names the tool there, not its call."""
    native, called = [], dict[str, str]()
    for message in messages:
        said = native_message(message)
        if said.get("role") == "developer":
            said["role"] = "system"
        for call in said.get("tool_calls") or []:
            if isinstance(call, dict) and isinstance(call.get("id"), str) and (name := _name(call)):
                called[call["id"]] = name
        if said.get("role") == "tool" and "tool_name" not in said and said.get("tool_call_id") in called:
            said["tool_name"] = called[said["tool_call_id"]]
        native.append(said)
    return native


def tool_call_pieces(calls: list[Any], first: int) -> list[dict[str, Any]]:
    """Return Ollama's calls of tools as the pieces deltas carry, numbered from `first` on.

    A call without an id is given one, in the answer too: its result must name it.
    """
    for call in calls:
        if isinstance(call, dict) and not (isinstance(call.get("id"), str) and call["id"]):
            call["id"] = f"call_{uuid.uuid4().hex[:24]}"
    return [{"index": index, **call} for index, call in enumerate(whole_calls(calls), first)]


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


def _format(wanted: Any) -> Any:
    """Return Ollama's `format` for a `response_format`; None for text, and for what it does not know."""
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_object":
        return "json"
    schema = wanted.get("json_schema") if kind == "json_schema" else None
    return schema.get("schema") if isinstance(schema, dict) else None


def _name(tool: Any) -> str | None:
    """Return the name of the function a tool, a call or a choice is about."""
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None
