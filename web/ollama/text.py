"""`POST /api/generate` and `POST /api/chat`."""

from __future__ import annotations

from typing import Any

from flask import Response

from llm_mcp.errors import ModelNotFound
from llm_mcp.fleet import Fleet, Route, Verb
from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs
from llm_mcp.ollama_words.names import LIBRARY
from llm_mcp.ollama_words.wire import Refusal

from ..idempotency import idempotency_key
from ..reply import service
from . import answering, cloud
from .asked import AskedText, raw_body, read_chat, read_generate
from .errors import say
from .forms import Form

SOURCE = "ollama"
# Of a request that only loads a model, what says how.
_LOADING = ("keep_alive", "options")


def generate() -> Response:
    """Complete a prompt; stream unless told not to."""
    jobs = service()
    asked = read_generate(raw_body(jobs.runtime.settings.max_body_bytes))
    if not asked.model:
        raise Refusal(404, "model '' not found")
    return _answer(jobs, asked)


def chat() -> Response:
    """Answer a chat; stream unless told not to."""
    jobs = service()
    asked = read_chat(raw_body(jobs.runtime.settings.max_body_bytes))
    if not asked.model:
        raise Refusal(400, "model is required")
    return _answer(jobs, asked)


def routed(jobs: Jobs, model: str, verb: Verb, words: str) -> Route:
    """Return where a call goes. Raises Refusal 404 with `words` when nobody has the model, NoProvider."""
    try:
        return Fleet.of(jobs.runtime).route(model.removeprefix(LIBRARY), verb)
    except ModelNotFound:
        raise Refusal(404, words) from None


def submission(route: Route, payload: dict[str, Any], *, kind: str = "") -> Submission:
    """Return the job of a request."""
    return Submission(
        kind=kind or route.kind,
        payload={**payload, **route.payload},
        source=SOURCE,
        idempotency_key=idempotency_key(),
    )


def _answer(jobs: Jobs, asked: AskedText) -> Response:
    route = routed(jobs, asked.model, asked.verb, f"model '{asked.model}' not found")
    form = Form(route.model if route.chosen else asked.model, asked.verb)
    if asked.empty:
        return _moved(jobs, asked, route, form)
    payload = asked.payload if route.provider == "ollama" else cloud.text_payload(asked, route)
    new = submission(route, {**payload, "stream": asked.stream})
    return (answering.stream if asked.stream else answering.whole)(jobs, new, route, form)


def _moved(jobs: Jobs, asked: AskedText, route: Route, form: Form) -> Response:
    """Load the model, or unload it; a cloud's is always there, and a call would cost."""
    reason = "unload" if asked.unloads else "load"
    if route.provider != "ollama":
        return say(form.moved(reason))
    payload = {name: asked.payload[name] for name in _LOADING if name in asked.payload}
    # A chat without a word is no payload of a chat, and loads the same model in the same way.
    new = submission(route, {**payload, "prompt": "", "stream": False}, kind="ollama.generate")
    return answering.moved(jobs, new, route, form, reason)
