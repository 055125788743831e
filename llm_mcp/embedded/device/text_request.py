"""The requests of /api/generate and /api/chat, read from their bodies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from llm_mcp.ollama_words.duration import keep_alive
from llm_mcp.ollama_words.wire import Fields, decode
from llm_mcp.ollama_words.wishes import think


@dataclass(frozen=True, slots=True)
class TextRequest:
    """What both have in common.

    `model` as the caller wrote it; `keep_s` see `duration.keep_alive`; `options` and `format` as sent, still to be
    read; `think` None when not said; `truncate`, whether a prompt that is too long is cut; `shift`, whether an answer
    may outgrow the context; `images`, whether any came.
    """

    model: str
    stream: bool
    keep_s: float | None
    options: dict[str, Any]
    format: Any
    think: bool | str | None
    truncate: bool
    shift: bool
    images: bool


@dataclass(frozen=True, slots=True)
class GenerateRequest(TextRequest):
    """A body of /api/generate; `context` holds the tokens of an earlier answer."""

    prompt: str
    suffix: str
    system: str
    template: str
    raw: bool
    context: list[int]

    @property
    def empty(self) -> bool:
        """Whether it only asks to load or unload."""
        return not self.prompt


@dataclass(frozen=True, slots=True)
class ChatRequest(TextRequest):
    """A body of /api/chat; `messages` and `tools` in the form llama.cpp takes."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]

    @property
    def empty(self) -> bool:
        """Whether it only asks to load or unload."""
        return not self.messages


def read_generate(raw: bytes) -> GenerateRequest:
    """Return the request. Raises Refusal 400."""
    fields = Fields(decode(raw, "GenerateRequest"), "GenerateRequest")
    context = fields.items("context", "[]int")
    for token in context:
        if isinstance(token, bool) or not isinstance(token, int):
            raise fields.wrong("context", token, "int")
    return GenerateRequest(
        **_common(fields, images=bool(fields.items("images", "[]api.ImageData"))),
        prompt=fields.text("prompt"),
        suffix=fields.text("suffix"),
        system=fields.text("system"),
        template=fields.text("template"),
        raw=fields.flag("raw"),
        context=context,
    )


def read_chat(raw: bytes) -> ChatRequest:
    """Return the request. Raises Refusal 400."""
    fields = Fields(decode(raw, "ChatRequest"), "ChatRequest")
    messages = fields.objects("messages", "api.Message")
    images = any(message.items("images", "[]api.ImageData") for message in messages)
    return ChatRequest(
        **_common(fields, images=images),
        messages=[_message(message) for message in messages],
        tools=[tool.values for tool in fields.objects("tools", "api.Tool")],
    )


def _common(fields: Fields, *, images: bool) -> dict[str, Any]:
    return {
        "model": fields.text("model"),
        "stream": fields.flag("stream", True),
        "keep_s": keep_alive(fields.values.get("keep_alive")),
        "options": fields.table("options"),
        "format": fields.values.get("format"),
        "think": think(fields.values.get("think")),
        "truncate": fields.flag("truncate", True),
        "shift": fields.flag("shift", True),
        "images": images,
    }


def _message(message: Fields) -> dict[str, Any]:
    converted: dict[str, Any] = {"role": message.text("role"), "content": message.text("content")}
    optional = {
        "reasoning_content": message.text("thinking"),
        "name": message.text("tool_name"),
        "tool_call_id": message.text("tool_call_id"),
        "tool_calls": [_tool_call(call) for call in message.objects("tool_calls", "api.ToolCall")],
    }
    return converted | {name: value for name, value in optional.items() if value}


def _tool_call(call: Fields) -> dict[str, Any]:
    function = Fields(call.table("function"), f"{call.path}.function")
    arguments = json.dumps(function.table("arguments"), ensure_ascii=False)
    return {
        "id": call.text("id"),
        "type": "function",
        "function": {"name": function.text("name"), "arguments": arguments},
    }
