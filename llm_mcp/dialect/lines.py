"""The requests of a batch: what each asks of a job, and what its job's end is as the answer it would have got."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from llm_mcp.answers import Finished, finished
from llm_mcp.errors import InvalidInput
from llm_mcp.job import Reason, Submission
from llm_mcp.routing import Route, Verb

from .fields import UNSUPPORTED, Fields
from .request import Wanted
from .response import created_at, incomplete_reason, response_object
from .script import Script

ENDPOINTS: dict[str, Verb] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "generate",
    "/v1/embeddings": "embed",
    "/v1/responses": "chat",
}
"""What a batch may be of, and what is asked of a model there."""
History = Callable[[str], Sequence[dict[str, Any]]]
# Ours: neither for a provider nor for a job.
_OURS = frozenset({"accuracy", "device_id", "encoding_format", "max_cost_usd", "n", "stream_options", "task_type"})
_OF_OURS = frozenset({"best_of", "echo", "stream"})
_OPTIONS = "_line"
"""Where a job's payload keeps what its answer is to look like."""
_MOST_DIMENSIONS = 65536


def submission_of(endpoint: str, body: Mapping[str, Any], route: Route, history: History, **options: Any) -> Submission:
    """Return the job of a request. `options` are further fields of it. Raises InvalidInput naming the field."""
    asked = Fields(body)
    if asked.flag("stream"):
        raise asked.wrong("stream", "the answers of a batch do not stream", UNSUPPORTED)
    if endpoint == "/v1/responses":
        wanted = Wanted.read({name: value for name, value in body.items() if name != "background"})
        return wanted.submission(route, history(wanted.previous) if wanted.previous else (), **options)
    for name in ("n", "best_of"):
        if asked.get(name) not in (None, 1):
            raise asked.wrong(name, "only 1 is supported", UNSUPPORTED)
    payload = {name: value for name, value in body.items() if _passes(name)}
    if endpoint == "/v1/chat/completions":
        if not list(asked.objects("messages")):
            raise asked.wrong("messages", "is required", "messages_required")
    elif endpoint == "/v1/completions":
        payload["prompt"] = _prompt(asked)
    else:
        payload["input"] = _texts(asked)
        payload[_OPTIONS] = {
            "base64": asked.word("encoding_format", "float", "base64") == "base64",
            "dimensions": asked.integer("dimensions", 1, _MOST_DIMENSIONS),
        }
    payload.update(route.payload, stream=False)
    return Submission(
        kind=route.kind, payload={name: value for name, value in payload.items() if value is not None}, **options
    )


def answer_of(endpoint: str, job_id: UUID, payload: Mapping[str, Any], result: Any) -> dict[str, Any]:
    """Return the answer to a request whose job is done, `result` being what it handed in. Raises InvalidInput."""
    if endpoint == "/v1/embeddings":
        return _embeddings(payload, result)
    said = finished(result)
    if endpoint == "/v1/responses":
        script = Script(job_id, payload)
        script.done(said)
        status = "incomplete" if incomplete_reason(said) else "completed"
        return response_object(job_id, payload, status=status, output=script.output, said=said)
    chat = endpoint == "/v1/chat/completions"
    return {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{job_id.hex}",
        "object": "chat.completion" if chat else "text_completion",
        "created": created_at(job_id),
        "model": said.model or payload.get("model"),
        "choices": [_chat_choice(said) if chat else _text_choice(said)],
        "usage": said.usage,
    }


def refusal_of(reason: str, words: str, *, status: int | None, word: str | None) -> tuple[int, dict[str, Any]]:
    """Return HTTP status and body of the answer to a request whose job ended in error.

    Parameters: `reason`, the job's; `status`, the provider's HTTP status; `word`, our word for its refusal.
    """
    told = {"message": words, "type": "server_error", "param": None, "code": word or reason}
    if status is not None and 400 <= status < 500:
        return status, {"error": {**told, "type": "rate_limit_error" if status == 429 else "invalid_request_error"}}
    if reason == Reason.CANCELLED:
        return 409, {"error": {**told, "type": "invalid_request_error"}}
    return 502 if word else 500, {"error": told}


def error_body(error: InvalidInput | Exception, code: str, *, field: str = "") -> dict[str, Any]:
    """Return the body of a refusal of ours."""
    words = f"{field}: {error}" if field else str(error)
    return {"error": {"message": words, "type": "invalid_request_error", "param": field or None, "code": code}}


def _passes(name: str) -> bool:
    return name not in _OURS and name not in _OF_OURS and not name.startswith("_")


def _prompt(asked: Fields) -> str:
    value = asked.get("prompt")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise asked.wrong("prompt", "must be one text", UNSUPPORTED)
    return value


def _texts(asked: Fields) -> list[str]:
    value = asked.get("input")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise asked.wrong("input", "must be text or a list of texts", "invalid_input")
    return texts


def _chat_choice(said: Finished) -> dict[str, Any]:
    message = {
        "role": "assistant",
        "content": said.text,
        "refusal": None,
        **said.of_message,
        **({"reasoning_content": said.thinking} if said.thinking else {}),
        **({"tool_calls": said.tool_calls} if said.tool_calls else {}),
    }
    logprobs = None if said.logprobs is None else {"content": said.logprobs, "refusal": None}
    return {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": said.finish_reason}


def _text_choice(said: Finished) -> dict[str, Any]:
    return {"index": 0, "text": said.text or "", "logprobs": None, "finish_reason": said.finish_reason}


def _embeddings(payload: Mapping[str, Any], result: Any) -> dict[str, Any]:
    told = result if isinstance(result, dict) else {}
    options = payload.get(_OPTIONS) or {}
    wanted = payload.get("input") or []
    data = told.get("data")
    fields = data if isinstance(data, dict) else {}
    found = fields.get("embeddings")
    if found is None and isinstance(fields.get("data"), list):
        items = [item for item in fields["data"] if isinstance(item, dict)]
        found = [item.get("embedding") for item in sorted(items, key=lambda item: item.get("index", 0))]
    if not isinstance(found, list) or len(found) != len(wanted) or not all(isinstance(one, list) for one in found):
        raise InvalidInput(f"the provider sent no vectors, or not {len(wanted)}", code="embed_failed")
    vectors = [_cut(vector, options.get("dimensions")) for vector in found]
    read = told.get("tokens_in")
    count = read if isinstance(read, int) else 0
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _packed(one) if options.get("base64") else one}
            for index, one in enumerate(vectors)
        ],
        "model": told.get("model") or payload.get("model"),
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


def _cut(vector: list[float], dimensions: int | None) -> list[float]:
    """Return a vector of so many numbers, of length one again; one that is as short already stays as it is."""
    if dimensions is None or len(vector) <= dimensions:
        return vector
    kept = vector[:dimensions]
    length = math.hypot(*kept)
    return [number / length for number in kept] if length else kept


def _packed(vector: list[float]) -> str:
    """Return a vector as base64 of 32-bit floats, lowest byte first."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
