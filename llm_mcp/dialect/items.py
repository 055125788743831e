"""The items of a response's input: what they are as messages of a chat, and as the list a client can ask for again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from .fields import UNSUPPORTED, Fields

_ROLES = ("user", "assistant", "system", "developer")
_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


def messages_of(asked: Fields, *, addresses: bool) -> list[dict[str, Any]]:
    """Return the messages of a request's `input`. A model's reasoning that was handed back is left out.

    `addresses`: whether pictures may be given as addresses for the provider to fetch, or as data only. Raises
    InvalidInput naming the item.
    """
    given = asked.get("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[dict[str, Any]] = []
    for item in asked.objects("input"):
        kind = item.text("type") or "message"
        if kind == "message":
            messages.append(_message(item, addresses=addresses))
        elif kind == "function_call":
            _add_call(messages, item)
        elif kind == "function_call_output":
            messages.append(
                {
                    "role": "tool",
                    "tool_call_id": item.needed("call_id"),
                    "content": _output(item),
                }
            )
        elif kind != "reasoning":
            raise item.wrong("type", "must be message, function_call, function_call_output or reasoning", UNSUPPORTED)
    return messages


def listed(job_id: UUID, given: Any) -> list[dict[str, Any]]:
    """Return an input as the items of a list, each with an id."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    items = []
    for place, item in enumerate(given if isinstance(given, list) else []):
        shown = {"id": f"in_{job_id.hex}_{place}", "type": "message", "status": "completed", **item}
        if isinstance(shown.get("content"), str) and shown["type"] == "message":
            kind = "output_text" if shown.get("role") == "assistant" else "input_text"
            shown["content"] = [{"type": kind, "text": shown["content"]}]
        items.append(shown)
    return items


def _message(item: Fields, *, addresses: bool) -> dict[str, Any]:
    role = item.word("role", *_ROLES)
    if role is None:
        raise item.wrong("role", f"must be one of {', '.join(_ROLES)}")
    content = item.get("content")
    if isinstance(content, str):
        return {"role": role, "content": content}
    parts = [_part(part, addresses=addresses) for part in item.objects("content")]
    if not parts and content is None:
        raise item.wrong("content", "is required", "missing_required_parameter")
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if len(texts) == len(parts) and (role == "assistant" or len(texts) <= 1):
        return {"role": role, "content": "".join(texts)}
    return {"role": role, "content": parts}


def _part(part: Fields, *, addresses: bool) -> dict[str, Any]:
    kind = part.text("type") or ""
    if kind in _TEXTS:
        text = part.text(_TEXTS[kind])
        if text is None:
            raise part.wrong(_TEXTS[kind], "is required", "missing_required_parameter")
        return {"type": "text", "text": text}
    if kind != "input_image":
        raise part.wrong("type", "must be input_text, input_image, output_text or refusal", UNSUPPORTED)
    if part.get("file_id") is not None:
        raise part.wrong("file_id", "pictures are given as image_url", UNSUPPORTED)
    url = part.needed("image_url")
    if not url.startswith("data:") and not addresses:
        raise part.wrong("image_url", "a model on Ollama is shown pictures as data: URLs only", UNSUPPORTED)
    detail = part.word("detail", "auto", "low", "high", "original")
    return {"type": "image_url", "image_url": {"url": url, **({"detail": detail} if detail else {})}}


def _add_call(messages: list[dict[str, Any]], item: Fields) -> None:
    """Add a call of a tool: to the assistant's message just before it, for calls come with what was said."""
    call = {
        "id": item.needed("call_id"),
        "type": "function",
        "function": {"name": item.needed("name"), "arguments": item.text("arguments") or "{}"},
    }
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append(call)


def _output(item: Fields) -> str:
    output = item.get("output")
    if isinstance(output, str):
        return output
    if not isinstance(output, list):
        raise item.wrong("output", "must be text or a list of input_text", "invalid_type")
    texts = []
    for part in item.objects("output"):
        if part.text("type") not in _TEXTS:
            raise part.wrong("type", "only text comes back from a tool", UNSUPPORTED)
        texts.append(part.text("text") or "")
    return "".join(texts)
