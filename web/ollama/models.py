"""`/api/version`, `/api/tags`, `/api/ps` and `/api/show`: what there is, over all devices and providers."""

from __future__ import annotations

from typing import Any

from flask import Response

from llm_mcp.errors import ProviderError
from llm_mcp.fleet import Fleet, Offer
from llm_mcp.inspection import Inspection
from llm_mcp.ollama_words.names import LIBRARY, OLLAMA_VERSION, full_name
from llm_mcp.ollama_words.wire import Fields, Refusal, decode
from llm_mcp.routing import serves

from ..reply import service
from . import entries
from .asked import raw_body
from .errors import Called, say, status_of, words_of


def root() -> Response:
    """Say what clients look for."""
    return Response("Ollama is running", content_type="text/plain; charset=utf-8")


def version() -> Response:
    """Say which Ollama the answers are like: clients look what it can do."""
    return say({"version": OLLAMA_VERSION})


def tags() -> Response:
    """List every model that can be named, each once."""
    named: dict[str, Offer] = {}
    for offer in Fleet.of(service().runtime).models():
        known = named.get(offer.name)
        if known is None or (known.away and not offer.away):
            named[offer.name] = offer
    return say({"models": [entries.listed(offer) for offer in named.values()]})


def running() -> Response:
    """List the models in memory, on whichever device."""
    return say({"models": Inspection.of(service().runtime).running()})


def show() -> Response:
    """Tell all of one model: what its device says of it, or what we know of a cloud's."""
    jobs = service()
    fields = Fields(decode(raw_body(jobs.runtime.settings.max_body_bytes), "ShowRequest"), "ShowRequest")
    name = fields.text("model") or fields.text("name")
    verbose = fields.flag("verbose")
    if not name:
        raise Refusal(400, "model is required")
    offer = _found(Fleet.of(jobs.runtime).models(), name.removeprefix(LIBRARY))
    if offer is None:
        raise Refusal(404, f"model '{full_name(name)}' not found")
    if offer.provider != "ollama":
        return say(entries.shown(offer))
    asked: dict[str, Any] = {"model": offer.name, **({"verbose": True} if verbose else {})}
    try:
        return say(Inspection.of(jobs.runtime).show(offer.device_id, asked))
    except ProviderError as error:
        raise Refusal(
            status_of(error.code, error.status), words_of(error, Called(offer.name, full_name(name)))
        ) from None


def _found(offers: list[Offer], name: str) -> Offer | None:
    """Return the offer a name means: one that can be asked now before one whose device is away."""
    found = [offer for offer in offers if serves(name, offer)]
    return min(found, key=lambda offer: offer.away, default=None)
