"""`POST /api/embed`, and `POST /api/embeddings`, its older form."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from flask import Response

from llm_mcp.calls import CallFailed
from llm_mcp.dialect.vectors import Mangled, vectors_of
from llm_mcp.ollama_words.wire import Refusal

from ..calls import ask, headers
from ..reply import service
from . import cloud
from .asked import AskedVectors, raw_body, read_embed, read_embeddings
from .errors import Called, refused, say
from .forms import data_of
from .text import routed, submission

_Render = Callable[[AskedVectors, dict[str, Any], list[list[float]], int], dict[str, Any]]


def embed() -> Response:
    """Turn texts into vectors."""
    asked = read_embed(raw_body(service().runtime.settings.max_body_bytes))
    if not asked.model:
        raise Refusal(404, "model '' not found")
    return _answer(asked, _many)


def embeddings() -> Response:
    """Turn one text into a vector."""
    asked = read_embeddings(raw_body(service().runtime.settings.max_body_bytes))
    if not asked.model:
        raise Refusal(400, "model is required")
    return _answer(asked, _one)


def _answer(asked: AskedVectors, render: _Render) -> Response:
    jobs = service()
    quoted = json.dumps(asked.model, ensure_ascii=False)
    route = routed(jobs, asked.model, "embed", f"model {quoted} not found, try pulling it first")
    payload = asked.payload
    if route.provider != "ollama":
        if not asked.texts:  # nothing to load, and nothing to ask
            return say(render(asked, {}, [], 0))
        payload = cloud.vectors_payload(asked, jobs.runtime.settings.cloud_embed_dimensions or None)
    began_at = time.monotonic_ns()
    try:
        answered = ask(jobs, submission(route, payload))
    except CallFailed as error:
        return refused(error, Called(route.model, asked.model))
    try:
        vectors = vectors_of(answered.result, len(asked.texts))
    except Mangled as error:
        raise Refusal(502, str(error)) from None
    told = render(asked, _figures(answered.result), vectors, time.monotonic_ns() - began_at)
    return say(told, headers=headers(answered.job_id, route, answered))


def _many(asked: AskedVectors, figures: dict[str, Any], vectors: list[list[float]], took_ns: int) -> dict[str, Any]:
    if not asked.texts:
        return {"model": asked.model, "embeddings": []}
    return {"model": asked.model, "embeddings": vectors, "total_duration": took_ns, **figures}


def _one(_asked: AskedVectors, _figures: dict[str, Any], vectors: list[list[float]], _took_ns: int) -> dict[str, Any]:
    return {"embedding": vectors[0] if vectors else []}


def _figures(result: Any) -> dict[str, Any]:
    """Return the provider's own figures, those that are not zero."""
    data = data_of(result)
    told = {name: data.get(name) for name in ("total_duration", "load_duration", "prompt_eval_count")}
    if not told["prompt_eval_count"] and isinstance(result, dict):
        told["prompt_eval_count"] = result.get("tokens_in")
    return {name: value for name, value in told.items() if isinstance(value, int) and value}
