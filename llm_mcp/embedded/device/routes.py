"""Which path answers what, as Ollama's router has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llm_mcp.ollama_words.names import OLLAMA_VERSION, full_name
from llm_mcp.ollama_words.wire import Answer, Fields, Refusal, decode

from . import text, vectors
from .call import Call
from .residents import Residents

Handler = Callable[[Residents, bytes, Call], Answer]


def version(_residents: Residents, _raw: bytes, _call: Call) -> dict[str, Any]:
    """Answer /api/version."""
    return {"version": OLLAMA_VERSION}


def tags(residents: Residents, _raw: bytes, _call: Call) -> dict[str, Any]:
    """Answer /api/tags: every model on offer."""
    return {"models": [model.listed() for model in residents.models()]}


def running(residents: Residents, _raw: bytes, _call: Call) -> dict[str, Any]:
    """Answer /api/ps: every model in memory."""
    return {"models": residents.running()}


def show(residents: Residents, raw: bytes, _call: Call) -> dict[str, Any]:
    """Answer a body of /api/show. Raises Refusal."""
    fields = Fields(decode(raw, "ShowRequest"), "ShowRequest")
    name = fields.text("model") or fields.text("name")
    if not name:
        raise Refusal(400, "model is required")
    model = residents.find(name)
    if model is None:
        raise Refusal(404, f"model '{full_name(name)}' not found")
    return model.shown()


# Path: method: what answers. HEAD comes with GET where Ollama has it.
ROUTES: dict[str, dict[str, Handler]] = {
    "/api/version": {"GET": version, "HEAD": version},
    "/api/tags": {"GET": tags, "HEAD": tags},
    "/api/ps": {"GET": running},
    "/api/show": {"POST": show},
    "/api/generate": {"POST": text.generate},
    "/api/chat": {"POST": text.chat},
    "/api/embed": {"POST": vectors.embed},
    "/api/embeddings": {"POST": vectors.embeddings},
}
