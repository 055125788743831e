"""What is told of a model: a device's own entry, or one in its form for a model of a cloud provider."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from llm_mcp.fleet import Offer
from llm_mcp.ollama_words.names import timestamp

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def listed(offer: Offer) -> dict[str, Any]:
    """Return the entry of `/api/tags`.

    A cloud's model says so as Ollama's own do, by `remote_model` and `remote_host`; its digest is that of its name.
    """
    entry = dict(offer.entry) if offer.provider == "ollama" else _remote(offer)
    return {
        "name": offer.name,
        "model": offer.name,
        "modified_at": timestamp(_created(offer)),
        "size": 0,
        "digest": hashlib.sha256(f"{offer.provider}/{offer.name}".encode()).hexdigest(),
        "details": _details(offer),
        "capabilities": _capabilities(offer),
        **entry,
    }


def shown(offer: Offer) -> dict[str, Any]:
    """Return the answer of `/api/show` for a cloud's model."""
    context = offer.entry.get("context_length")
    length = {f"{offer.provider}.context_length": context} if isinstance(context, int) else {}
    return {
        "modelfile": "",
        "template": "",
        "details": _details(offer),
        "model_info": {"general.architecture": offer.provider, "general.basename": offer.name, **length},
        "capabilities": _capabilities(offer),
        "modified_at": timestamp(_created(offer)),
        **_remote(offer),
    }


def _remote(offer: Offer) -> dict[str, Any]:
    return {"remote_model": offer.name, "remote_host": offer.provider}


def _details(offer: Offer) -> dict[str, Any]:
    details = {
        "parent_model": "",
        "format": "",
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": "",
    }
    context = offer.entry.get("context_length")
    return {**details, "context_length": context} if isinstance(context, int) else details


def _capabilities(offer: Offer) -> list[str]:
    """Return Ollama's words for what a model can do: the device's own, else as OpenRouter lists it."""
    if offer.capabilities:
        return sorted(offer.capabilities)
    if offer.embeds:
        return ["embedding"]
    parameters, architecture = offer.entry.get("supported_parameters"), offer.entry.get("architecture")
    known = parameters if isinstance(parameters, list) else []
    inputs = architecture.get("input_modalities") if isinstance(architecture, dict) else None
    words = {"tools": "tools" in known, "thinking": "reasoning" in known}
    words["vision"] = isinstance(inputs, list) and "image" in inputs
    return ["completion", *(word for word, can in words.items() if can)]


def _created(offer: Offer) -> datetime:
    created = offer.entry.get("created")
    try:
        return datetime.fromtimestamp(created, UTC) if isinstance(created, int) else _LONG_AGO
    except (ValueError, OverflowError, OSError):
        return _LONG_AGO
