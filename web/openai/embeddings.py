"""`POST /v1/embeddings`."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

from flask import Response

from llm_mcp.errors import InvalidInput, LlmMcpError
from llm_mcp.fleet import Fleet

from ..fields import Field
from ..reply import answer, service
from .answering import ask, headers
from .asked import Asked

_MOST_DIMENSIONS = 65536
_TEXT = Field(sort="text")
EMBEDDING = (
    Field(name="model", sort="text", required="model_required", about="One of `/v1/models` that embeds."),
    Field(
        name="input",
        sort="any",
        required="empty_input",
        forms=(_TEXT, Field(sort="array", required="empty_input", items=_TEXT)),
        about="A text or a list of texts; tokens are not taken.",
    ),
    Field(name="encoding_format", sort="text", words=("float", "base64"), about="base64: of 32-bit floats."),
    Field(name="dimensions", sort="integer", least=1, most=_MOST_DIMENSIONS, about="Cut the vectors to so many."),
)
"""What of a request for vectors is read here."""


class Mangled(LlmMcpError):
    """The provider's answer holds no vectors."""

    code = "embed_failed"


def create() -> Response:
    """Turn texts into vectors."""
    jobs = service()
    settings = jobs.runtime.settings
    asked = Asked.read(settings.max_body_bytes)
    model = asked.text("model")
    if not model:
        raise InvalidInput("is required", field="model", code="model_required")
    texts = _texts(asked.get("input"))
    form = asked.get("encoding_format")
    if form not in (None, "float", "base64"):
        raise InvalidInput("must be float or base64", field="encoding_format", code="invalid_value")
    dimensions = asked.integer("dimensions", 1, _MOST_DIMENSIONS)
    route = Fleet.of(jobs.runtime).route(model, "embed")
    if route.provider != "ollama":
        dimensions = dimensions or settings.cloud_embed_dimensions or None
    answered = ask(jobs, asked.submission(route, input=texts, dimensions=dimensions, stream=None))
    result = answered.result if isinstance(answered.result, dict) else {}
    vectors = [_cut(vector, dimensions) for vector in _vectors(result, len(texts))]
    read = result.get("tokens_in")
    count = read if isinstance(read, int) else 0
    shown = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if form == "base64" else vector}
            for index, vector in enumerate(vectors)
        ],
        "model": result.get("model") or route.model,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }
    return answer(shown, headers=headers(answered.job_id, route, answered))


def _texts(value: Any) -> list[str]:
    if value in (None, "", [], [""]):
        raise InvalidInput("is empty", field="input", code="empty_input")
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise InvalidInput("must be text or a list of texts", field="input", code="invalid_input")
    for place, item in enumerate(value):
        if not isinstance(item, str):
            fault = "must be text; tokens are not taken"
            raise InvalidInput(fault, field=f"input[{place}]", code="invalid_input")
    return value


def _vectors(result: dict[str, Any], wanted: int) -> list[list[float]]:
    """Return the vectors of a result, Ollama's or OpenAI's. Raises Mangled."""
    data = result.get("data")
    fields = data if isinstance(data, dict) else {}
    found = fields.get("embeddings")
    if found is None and isinstance(fields.get("data"), list):
        items = [item for item in fields["data"] if isinstance(item, dict)]
        found = [item.get("embedding") for item in sorted(items, key=lambda item: item.get("index", 0))]
    if found is None and wanted == 1:
        found = [fields.get("embedding")]
    if not isinstance(found, list) or len(found) != wanted or not all(isinstance(vector, list) for vector in found):
        raise Mangled(f"the provider sent no vectors, or not {wanted}")
    return found


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
