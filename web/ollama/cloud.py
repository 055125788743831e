"""Ollama's requests as OpenAI's dialect has them: for models that only a cloud provider has."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from llm_mcp.fleet import Route
from llm_mcp.ollama_words.wire import Refusal

from .asked import AskedText, AskedVectors

# What such a model has no way to do, and what Ollama says of a model that cannot.
_CANNOT = {"suffix": "insert", "raw": "raw mode", "template": "templates", "context": "context"}
_IMAGE_TYPES = ((b"\x89PNG", "png"), (b"GIF8", "gif"), (b"RIFF", "webp"))
_EFFORTS = {"max": "high"}


def text_payload(asked: AskedText, route: Route) -> dict[str, Any]:
    """Return the payload of a chat. Raises Refusal 400 for what the model cannot do."""
    told = asked.payload
    for name, words in _CANNOT.items():
        if told.get(name):
            raise Refusal(400, f"{json.dumps(asked.model)} does not support {words}")
    messages = _conversation(told.get("messages") or _prompt(told))
    payload: dict[str, Any] = {"messages": messages, "options": told.get("options"), "tools": told.get("tools")}
    if told.get("logprobs"):
        payload |= {"logprobs": True, "top_logprobs": told.get("top_logprobs") or None}
    payload["response_format"] = _format(told.get("format"))
    # Asked for or not, thoughts are shown but where they are not wanted: so does Ollama.
    payload["thinking"] = told.get("think") is not False
    payload |= _effort(told.get("think"), route.provider)
    return {name: value for name, value in payload.items() if value is not None}


def vectors_payload(asked: AskedVectors, dimensions: int | None) -> dict[str, Any]:
    """Return the payload of an embedding; `dimensions`, the length of a vector where the client names none."""
    wanted = asked.payload.get("dimensions") or dimensions
    return {"input": asked.texts, **({"dimensions": wanted} if wanted else {})}


def _prompt(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    system = [{"role": "system", "content": told["system"]}] if told.get("system") else []
    images = {"images": told["images"]} if told.get("images") else {}
    return [*system, {"role": "user", "content": told["prompt"], **images}]


def _conversation(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages in OpenAI's form: there the result of a tool names its call, here it may name the tool."""
    found: list[dict[str, Any]] = []
    unanswered: list[tuple[str, str]] = []
    for place, message in enumerate(messages):
        said: dict[str, Any] = {"role": message["role"], "content": _content(message)}
        calls = [_call(call, f"call_{place}_{n}") for n, call in enumerate(message.get("tool_calls") or [])]
        if calls:
            said |= {"tool_calls": calls, "content": said["content"] or None}
            unanswered = [(call["id"], call["function"]["name"]) for call in calls]
        if message["role"] == "tool":
            said["tool_call_id"] = message.get("tool_call_id") or _take(unanswered, message.get("tool_name"))
        found.append(said)
    return found


def _content(message: Mapping[str, Any]) -> Any:
    text, images = message.get("content") or "", message.get("images") or []
    if not images:
        return text
    pictures = [{"type": "image_url", "image_url": {"url": _address(image)}} for image in images]
    return [*([{"type": "text", "text": text}] if text else []), *pictures]


def _address(image: str) -> str:
    start = base64.b64decode(image[:16] + "=" * (-len(image[:16]) % 4))
    kind = next((kind for mark, kind in _IMAGE_TYPES if start.startswith(mark)), "jpeg")
    return f"data:image/{kind};base64,{image}"


def _call(call: Mapping[str, Any], name: str) -> dict[str, Any]:
    function = call.get("function") or {}
    arguments = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
    said = {"name": function.get("name") or "", "arguments": arguments}
    return {"id": call.get("id") or name, "type": "function", "function": said}


def _take(unanswered: list[tuple[str, str]], tool: Any) -> str:
    """Return the id of the next call that waits for a result, of this tool if there is one."""
    wanted = next((pair for pair in unanswered if pair[1] == tool), None) or next(iter(unanswered), None)
    if wanted is None:
        raise Refusal(400, "a tool's result without a call before it")
    unanswered.remove(wanted)
    return wanted[0]


def _format(wanted: Any) -> Any:
    if wanted in (None, ""):
        return None
    if wanted == "json":
        return {"type": "json_object"}
    if isinstance(wanted, dict):
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted}}
    raise Refusal(
        400, f'invalid format: {json.dumps(json.dumps(wanted))}; expected "json" or a valid JSON Schema object'
    )


def _effort(wish: Any, provider: str) -> dict[str, Any]:
    """Return how hard to think in the provider's words; OpenAI has none for a mere yes or no."""
    level = _EFFORTS.get(wish, wish) if isinstance(wish, str) else None
    if provider == "openrouter" and wish is not None:
        return {"reasoning": {"enabled": wish} if level is None else {"effort": level}}
    return {} if level is None else {"reasoning_effort": level}
