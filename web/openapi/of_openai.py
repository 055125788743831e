"""The operations of OpenAI's dialect."""

from __future__ import annotations

from llm_mcp.payloads import Chat, Embed

from ..openai.chat import CHAT
from ..openai.completions import COMPLETION
from ..openai.embeddings import EMBEDDING
from .of_jobs import ID, IDEMPOTENCY
from .parts import JSON, SSE, Operation, Schema, answer, body, headers, of_table, parameter, ref
from .refusals import openais

TAG = "OpenAI"
HEX = ID.replace("-", "")

_COUNT: Schema = {"type": "integer", "minimum": 0}
_USAGE: Schema = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": {"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT},
}
_MESSAGE: Schema = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"const": "assistant"},
        "content": {"type": ["string", "null"]},
        "refusal": {"type": ["string", "null"]},
        "reasoning_content": {"type": "string"},
        "tool_calls": {"type": "array", "items": {"type": "object"}},
    },
}


def _completion(word: str, said: str, schema: Schema) -> Schema:
    choice: Schema = {
        "type": "object",
        "required": ["index", said, "finish_reason"],
        "properties": {
            "index": {"const": 0},
            said: schema,
            "logprobs": {"type": ["object", "null"]},
            "finish_reason": {"type": "string"},
        },
    }
    return {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": word},
            "created": {"type": "integer"},
            "model": {"type": "string"},
            "choices": {"type": "array", "items": choice, "minItems": 1, "maxItems": 1},
            "usage": _USAGE,
        },
    }


SCHEMAS: dict[str, Schema] = {
    "ChatCompletion": _completion("chat.completion", "message", _MESSAGE),
    "TextCompletion": _completion("text_completion", "text", {"type": "string"}),
    "EmbeddingList": {
        "type": "object",
        "required": ["object", "data", "model", "usage"],
        "properties": {
            "object": {"const": "list"},
            "data": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["object", "index", "embedding"],
                    "properties": {
                        "object": {"const": "embedding"},
                        "index": _COUNT,
                        "embedding": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]},
                    },
                },
            },
            "model": {"type": "string"},
            "usage": {"type": "object", "properties": {"prompt_tokens": _COUNT, "total_tokens": _COUNT}},
        },
    },
    "Model": {
        "type": "object",
        "required": ["id", "object", "created", "owned_by", "provider", "devices", "loaded"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": {"type": "string"},
            "provider": {"enum": ["ollama", "openai", "openrouter"]},
            "devices": {"type": "array", "items": {"type": "string"}},
            "loaded": {"type": "boolean"},
        },
        "additionalProperties": False,
    },
    "ModelList": {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": ref("Model")}},
        "additionalProperties": False,
    },
}
MODEL = {
    "id": "qwen3:1.7b",
    "object": "model",
    "created": 1764100813,
    "owned_by": "library",
    "provider": "ollama",
    "devices": ["local"],
    "loaded": True,
}
_HEAD = {"created": 1764100813, "model": "qwen3:1.7b"}
_USED = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
_SAID = {"role": "assistant", "content": "Red, green and blue.", "refusal": None}
_CHATTED = {
    "id": f"chatcmpl-{HEX}",
    "object": "chat.completion",
    **_HEAD,
    "choices": [{"index": 0, "message": _SAID, "logprobs": None, "finish_reason": "stop"}],
    "usage": _USED,
}
_COMPLETED = {
    "id": f"cmpl-{HEX}",
    "object": "text_completion",
    **_HEAD,
    "choices": [{"index": 0, "text": "blue.", "logprobs": None, "finish_reason": "stop"}],
    "usage": _USED,
}
_VECTORS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}],
    "model": "embeddinggemma",
    "usage": {"prompt_tokens": 2, "total_tokens": 2},
}
_STREAM = (
    "With `stream`, server-sent events: each `data:` is a chunk, the last one `[DONE]`. Comments keep the connection "
    "alive. What goes wrong after the first chunk is an `error` object that names the job."
)
_ABOUT = (
    "The call is a job, which outlives its client: `x-llm-mcp-job` names it. Fields that are not listed are passed on "
    "to the provider."
)


def called(told: Schema, *, streams: bool = False, example: str = "data: [DONE]\n\n") -> Schema:
    """Return the answer of a call that is a job: it names it, and may come as a stream."""
    named = headers(told, x_llm_mcp_job="The job.", X_Selected_Model="The model, where none was named.")
    if streams:
        named["content"] = {**named["content"], SSE: {"example": example}}
    return named


def _call(name: str, summary: str, schema: Schema, example: Schema, told: str, shown: Schema, about: str) -> Operation:
    return {
        "operationId": name,
        "tags": [TAG],
        "summary": summary,
        "description": about,
        "parameters": [IDEMPOTENCY],
        "requestBody": body(schema, example),
        "responses": {
            "200": called(answer("The answer.", ref(told), shown, kind=JSON), streams=about != _ABOUT),
            **openais(runs=True),
        },
    }


PATHS: dict[str, dict[str, Operation]] = {
    "/v1/chat/completions": {
        "post": _call(
            "create_chat_completion",
            "Answer a chat",
            of_table(CHAT, model=Chat),
            {"model": "qwen3:1.7b", "messages": [{"role": "user", "content": "Three colours?"}]},
            "ChatCompletion",
            _CHATTED,
            f"{_ABOUT} {_STREAM}",
        )
    },
    "/v1/completions": {
        "post": _call(
            "create_completion",
            "Complete a prompt",
            of_table(COMPLETION, model=Chat, only=("temperature", "max_tokens", "options")),
            {"model": "qwen3:1.7b", "prompt": "Red, green and"},
            "TextCompletion",
            _COMPLETED,
            f"{_ABOUT} {_STREAM}",
        )
    },
    "/v1/embeddings": {
        "post": _call(
            "create_embedding",
            "Turn texts into vectors",
            of_table(EMBEDDING, model=Embed, only=("input", "model", "dimensions")),
            {"model": "embeddinggemma", "input": "A blue sky"},
            "EmbeddingList",
            _VECTORS,
            _ABOUT,
        )
    },
    "/v1/models": {
        "get": {
            "operationId": "list_models",
            "tags": [TAG],
            "summary": "What can be named",
            "responses": {
                "200": answer("All models.", ref("ModelList"), {"object": "list", "data": [MODEL]}),
                **openais(),
            },
        }
    },
    "/v1/models/{name}": {
        "get": {
            "operationId": "get_model",
            "tags": [TAG],
            "summary": "One model",
            "parameters": [
                parameter("name", "path", {"type": "string"}, "Its name, which may hold `/`.", example="qwen3:1.7b")
            ],
            "responses": {"200": answer("The model.", ref("Model"), MODEL), **openais(404)},
        }
    },
}
