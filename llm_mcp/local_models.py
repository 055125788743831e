"""Which Ollama this machine's jobs go to: the one that is set, the one that runs here, else the embedded device."""

from __future__ import annotations

from enum import StrEnum

from .child import Child
from .config import Settings, child_environment
from .embedded import ollama as device
from .embedded.device import catalog
from .errors import ProviderError
from .http import get_json

LOCAL_OLLAMA = "http://127.0.0.1:11434"
_PROBE_S = 0.5
_MAX_BYTES = 2**20


class Source(StrEnum):
    """How an Ollama was found."""

    SET = "set"
    LOCAL = "local"
    EMBEDDED = "embedded"


def find(settings: Settings) -> tuple[Source, str] | None:
    """Return how it was found and its base URL, None when there is none.

    One that is set is not asked whether it lives; a local one without a model counts as none.
    """
    if settings.ollama_base_url:
        return Source.SET, settings.ollama_base_url.rstrip("/")
    if settings.local_ollama and serves_models(LOCAL_OLLAMA):
        return Source.LOCAL, LOCAL_OLLAMA
    url = device.running_url(settings.data_dir)
    return None if url is None else (Source.EMBEDDED, url)


def serves_models(base_url: str) -> bool:
    """Return whether an Ollama answers there within half a second and has at least one model."""
    try:
        found = get_json(f"{base_url}/api/tags", timeout_s=_PROBE_S, max_bytes=_MAX_BYTES)
    except ProviderError:
        return False
    return isinstance(found, dict) and bool(found.get("models"))


def no_embedded_reason(settings: Settings) -> str | None:
    """Return why the embedded device cannot run here and what to do about it, None when it can."""
    return catalog.unavailable_reason(settings.embedded_model)


def embedded_device(settings: Settings) -> Child:
    """Return the embedded device as a process to start. Only when `no_embedded_reason` gives none."""
    models = catalog.packaged_models(settings.embedded_model)
    argv = device.command(settings.data_dir, models, context=settings.embedded_context)
    return Child("embedded model", argv, environment=child_environment(settings))
