"""The requests of a batch: what each asks of a job, and what its job's end is as the answer it would have got."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from llm_mcp.answers import finished
from llm_mcp.job import Reason, Submission
from llm_mcp.routing import Route, Verb

from .completion import chat_completion, text_completion
from .fields import UNSUPPORTED, Fields
from .request import Wanted
from .response import incomplete_reason, response_object
from .script import Script
from .vectors import embedding_list

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
    """Return the answer to a request whose job is done, `result` being what it handed in. Raises Mangled."""
    if endpoint == "/v1/embeddings":
        options = payload.get(_OPTIONS) or {}
        return embedding_list(
            result,
            len(payload.get("input") or []),
            model=payload.get("model"),
            dimensions=options.get("dimensions"),
            packed=options.get("base64") is True,
        )
    said = finished(result)
    if endpoint == "/v1/responses":
        script = Script(job_id, payload)
        script.done(said)
        status = "incomplete" if incomplete_reason(said) else "completed"
        return response_object(job_id, payload, status=status, output=script.output, said=said)
    render = chat_completion if endpoint == "/v1/chat/completions" else text_completion
    return render(job_id, payload.get("model") or "", said)


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


def error_body(error: Exception, code: str, *, field: str = "") -> dict[str, Any]:
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
