"""The operations of Ollama's dialect."""

from __future__ import annotations

from typing import Any

from llm_mcp.payloads import Chat, Embed, Generate

from ..ollama import asked
from .of_jobs import IDEMPOTENCY
from .of_openai import called
from .parts import NDJSON, Operation, Schema, answer, body, of_table, parameter, ref
from .refusals import ollamas

TAG = "Ollama"

_TEXT: Schema = {"type": "string"}
_NANOSECONDS: Schema = {"type": "integer", "minimum": 0, "description": "ns"}
_VECTOR: Schema = {"type": "array", "items": {"type": "number"}}


def _said(**own: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["model", "created_at", "done", *own],
        "properties": {
            "model": _TEXT,
            "created_at": {"type": "string", "format": "date-time"},
            "done": {"type": "boolean"},
            "done_reason": _TEXT,
            "total_duration": _NANOSECONDS,
            **own,
        },
    }


def _models(**of_each: Schema) -> Schema:
    model = {"type": "object", "required": list(of_each), "properties": of_each}
    models: Schema = {"type": "array", "items": model}
    return {"type": "object", "required": ["models"], "properties": {"models": models}, "additionalProperties": False}


SCHEMAS: dict[str, Schema] = {
    "Generated": _said(response=_TEXT),
    "Chatted": _said(message={"type": "object", "required": ["role", "content"]}),
    "Embedded": {
        "type": "object",
        "required": ["model", "embeddings"],
        "properties": {"model": _TEXT, "embeddings": {"type": "array", "items": _VECTOR}},
    },
    "OneEmbedded": {"type": "object", "required": ["embedding"], "properties": {"embedding": _VECTOR}},
    "Tags": _models(name=_TEXT, model=_TEXT, modified_at=_TEXT, size={"type": "integer"}, digest=_TEXT),
    "Running": _models(name=_TEXT),
    "OllamaVersion": {"type": "object", "required": ["version"], "properties": {"version": _TEXT}},
}
_AT = "2026-11-25T20:00:13.148547Z"
_HEAD = {"model": "qwen3:1.7b", "created_at": _AT, "done": True, "done_reason": "stop", "total_duration": 212000000}
_LINE = (
    '{"model":"qwen3:1.7b","created_at":"2026-11-25T20:00:13.148547Z","response":"Red","done":false}\n'
    '{"model":"qwen3:1.7b","created_at":"2026-11-25T20:00:13.212934Z","response":"","done":true}\n'
)
_STREAMS = (
    "Unless `stream` is false, a line of JSON for each piece of the answer, the last one with `done`. What goes wrong "
    "after the first line is a line with `error`. "
)
_JOB = "The call is a job, which outlives its client: `x-llm-mcp-job` names it. Knobs not listed are the device's own."
_TAGS = {
    "models": [
        {"name": "qwen3:1.7b", "model": "qwen3:1.7b", "modified_at": _AT, "size": 1359293444, "digest": "8f68893c"}
    ]
}


def _call(name: str, summary: str, schema: Schema, example: Any, told: str, shown: Any, *, streams: bool) -> Operation:
    done = called(answer("The answer.", ref(told), shown))
    if streams:
        done["content"][NDJSON] = {"example": _LINE}
    return {
        "operationId": name,
        "tags": [TAG],
        "summary": summary,
        "description": (_STREAMS if streams else "") + _JOB,
        "parameters": [IDEMPOTENCY],
        "requestBody": body(schema, example),
        "responses": {"200": done, **ollamas(runs=True)},
    }


def _told(name: str, summary: str, schema: Schema, example: Any, *, kind: str = "application/json") -> Operation:
    return {
        "operationId": name,
        "tags": [TAG],
        "summary": summary,
        "responses": {"200": answer("So it is.", schema, example, kind=kind), **ollamas()},
    }


def _managed(method: str, path: str) -> Operation:
    word = path.removeprefix("/api/").partition("/")[0]
    operation: Operation = {
        "operationId": f"{method}_{word}",
        "tags": [TAG],
        "summary": "Not here",
        "description": "Models are managed on the devices that have them.",
        "responses": {"501": answer("Not implemented.", ref("OllamaError")), **ollamas()},
    }
    if "{" in path:
        operation["parameters"] = [parameter("digest", "path", _TEXT)]
    return operation


PATHS: dict[str, dict[str, Operation]] = {
    "/": {"get": _told("ollama", "What Ollama's clients look for", _TEXT, "Ollama is running", kind="text/plain")},
    "/api/version": {
        "get": _told("ollama_version", "Which Ollama answers are like", ref("OllamaVersion"), {"version": "0.15.0"})
    },
    "/api/tags": {"get": _told("tags", "What can be named", ref("Tags"), _TAGS)},
    "/api/ps": {"get": _told("running", "Models in memory", ref("Running"), {"models": [{"name": "qwen3:1.7b"}]})},
    "/api/show": {
        "post": {
            "operationId": "show",
            "tags": [TAG],
            "summary": "All of one model",
            "requestBody": body(of_table(asked.SHOW), {"model": "qwen3:1.7b"}),
            "responses": {
                "200": answer("What its device says of it.", {"type": "object"}),
                **ollamas(400, 404, 413, 502),
            },
        }
    },
    "/api/generate": {
        "post": _call(
            "generate",
            "Complete a prompt",
            of_table(asked.GENERATE, model=Generate, only=("prompt", "system", "options", "images", "model")),
            {"model": "qwen3:1.7b", "prompt": "Three colours?", "stream": False},
            "Generated",
            {**_HEAD, "response": "Red, green and blue."},
            streams=True,
        )
    },
    "/api/chat": {
        "post": _call(
            "chat",
            "Answer a chat",
            of_table(asked.CHAT, model=Chat, only=("messages", "options", "model")),
            {"model": "qwen3:1.7b", "messages": [{"role": "user", "content": "Three colours?"}], "stream": False},
            "Chatted",
            {**_HEAD, "message": {"role": "assistant", "content": "Red, green and blue."}},
            streams=True,
        )
    },
    "/api/embed": {
        "post": _call(
            "embed",
            "Turn texts into vectors",
            of_table(asked.EMBED, model=Embed, only=("input", "model", "dimensions")),
            {"model": "embeddinggemma", "input": ["A blue sky"]},
            "Embedded",
            {"model": "embeddinggemma", "embeddings": [[0.6, 0.8]]},
            streams=False,
        )
    },
    "/api/embeddings": {
        "post": _call(
            "embeddings",
            "Turn one text into a vector: the older form",
            of_table(asked.EMBEDDINGS, model=Embed, only=("prompt", "model")),
            {"model": "embeddinggemma", "prompt": "A blue sky"},
            "OneEmbedded",
            {"embedding": [0.6, 0.8]},
            streams=False,
        )
    },
    **{f"/api/{word}": {"post": _managed("post", f"/api/{word}")} for word in ("pull", "push", "create", "copy")},
    "/api/delete": {"delete": _managed("delete", "/api/delete")},
    "/api/blobs/{digest}": {method: _managed(method, "/api/blobs/{digest}") for method in ("post", "get")},
}
