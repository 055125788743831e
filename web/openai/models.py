"""`GET /v1/models` and `GET /v1/models/{id}`: what can be named."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flask import Response

from llm_mcp.errors import ModelNotFound
from llm_mcp.fleet import Fleet, Offer
from llm_mcp.routing import serves

from ..reply import answer, service


def page() -> Response:
    """List every model that can be named, each once."""
    return answer({"object": "list", "data": [_object(offers) for offers in _offers().values()]})


def get(name: str) -> Response:
    """Return one model."""
    found = [offer for offers in _offers().values() for offer in offers if serves(name, offer)]
    if not found:
        raise ModelNotFound("nobody here has a model of that name")
    return answer(_object([offer for offer in found if offer.name == found[0].name]))


def _offers() -> Mapping[str, list[Offer]]:
    """Return the offers by name: a device's goes before a provider's of the same name, as it does for a call."""
    named: dict[str, list[Offer]] = {}
    for offer in Fleet.of(service().runtime).models():
        named.setdefault(offer.name, []).append(offer)
    return named


def _object(offers: list[Offer]) -> dict[str, Any]:
    """Return OpenAI's object of a model; beyond it, which provider and which devices have it, and whether loaded."""
    first = offers[0]
    devices = [offer for offer in offers if offer.device_id is not None]
    return {
        "id": first.name,
        "object": "model",
        "created": _created(first.entry),
        "owned_by": _owner(first),
        "provider": first.provider,
        "devices": [offer.device_id for offer in devices if not offer.away],
        "loaded": any(offer.loaded for offer in devices),
    }


def _created(entry: Mapping[str, Any]) -> int:
    created, modified = entry.get("created"), entry.get("modified_at")
    if isinstance(created, int):
        return created
    try:
        return int(datetime.fromisoformat(str(modified)).timestamp())
    except (ValueError, OverflowError):
        return 0


def _owner(offer: Offer) -> str:
    """Return whose model it is: as the provider says, else as its name does."""
    owner = offer.entry.get("owned_by")
    if isinstance(owner, str) and owner:
        return owner
    if offer.provider == "openrouter" and "/" in offer.name:
        return offer.name.partition("/")[0]
    return "library" if offer.provider == "ollama" else offer.provider
