"""`POST /v1/embeddings`."""

from __future__ import annotations

from typing import Any

from flask import Response

from llm_mcp.dialect.vectors import embedding_list
from llm_mcp.errors import InvalidInput
from llm_mcp.fleet import Fleet

from ..calls import ask, headers
from ..fields import Field
from ..reply import answer, service
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
    shown = embedding_list(
        answered.result, len(texts), model=route.model, dimensions=dimensions, packed=form == "base64"
    )
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
