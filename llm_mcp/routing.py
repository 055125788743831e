"""Who answers a call: from the name of a model and what can be named now, to a kind, a provider and a device.

Pure. A name that a device serves goes to that device's Ollama (`name` is `name:latest` there); another one with a `/`
goes to OpenRouter, any other to OpenAI when its key is set. No name, or `auto`, is the default model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .config import Settings
from .errors import ModelNotFound, NoProvider

Verb = Literal["chat", "generate", "embed"]

LOCAL_DEVICE = "local"
"""Id of the device that is a process's own Ollama: the one set, the one on this machine, or the embedded one."""
AUTO = "auto"
_LATEST = ":latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A model that can be named: where it is, whether it is loaded, and what the listing there says of it.

    `capabilities` are Ollama's words, empty when unknown; `entry` is the provider's own entry (Ollama: of
    `/api/tags`). `away`: its device does not answer just now, and had it when it last did.
    """

    name: str
    provider: str
    device_id: str | None = None
    loaded: bool = False
    away: bool = False
    capabilities: frozenset[str] = frozenset()
    entry: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def embeds(self) -> bool:
        """Whether it makes vectors rather than text; by its name when nobody says."""
        return "embedding" in self.capabilities if self.capabilities else "embed" in self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a call goes: the job's kind, and what its payload must say. `model` is the name the provider knows.

    `chosen`: nobody named a model, it was chosen here.
    """

    kind: str
    provider: str
    model: str
    device_id: str | None = None
    chosen: bool = False

    @property
    def payload(self) -> dict[str, str]:
        """The fields of a payload that say where the call goes."""
        return {"model": self.model, **({"device_id": self.device_id} if self.device_id else {})}


def choose(model: str | None, verb: Verb, offers: Iterable[Offer], settings: Settings, *, answered: bool) -> Route:
    """Return where a call goes.

    Parameters: `offers`, what the devices have; `answered`, whether any of them answers. Raises ModelNotFound, and
    NoProvider when a key is missing or no device answers.
    """
    offers = sorted(offers, key=lambda offer: (offer.away, not offer.loaded))
    if model and model != AUTO:
        return _named(model, verb, offers, settings, answered=answered)
    return _default(verb, offers, settings, answered=answered)


def serves(name: str, offer: Offer) -> bool:
    """Say whether a model's name, as a caller wrote it, means this offer."""
    return means(name, offer.name)


def means(name: str, offered: str) -> bool:
    """Say whether a model's name, as a caller wrote it, means the one that is offered by this name."""
    return offered in (name, name + _LATEST) or offered + _LATEST == name


def _named(model: str, verb: Verb, offers: list[Offer], settings: Settings, *, answered: bool) -> Route:
    for offer in offers:
        if serves(model, offer):
            return _local(offer.name, verb, offer.device_id)
    if "/" in model:
        if settings.openrouter_api_key is None:
            raise NoProvider("this model is OpenRouter's, and OPENROUTER_API_KEY is not set", code="no_api_key")
        return _cloud("openrouter", model, verb)
    if settings.openai_api_key is not None:
        return _cloud("openai", model, verb)
    if not answered:
        raise NoProvider("no machine with an Ollama answers, and OPENAI_API_KEY is not set", code="no_device")
    raise ModelNotFound("no machine here has a model of that name, and OPENAI_API_KEY is not set")


def _default(verb: Verb, offers: list[Offer], settings: Settings, *, answered: bool) -> Route:
    set_up = settings.ollama_embed_model if verb == "embed" else settings.ollama_model
    if set_up is not None and answered:
        found = next((offer for offer in offers if serves(set_up, offer)), None)
        if found is not None:
            return _local(found.name, verb, found.device_id, chosen=True)
        return _local(set_up, verb, LOCAL_DEVICE, chosen=True)
    for offer in offers:
        if offer.embeds == (verb == "embed") and not offer.away:
            return _local(offer.name, verb, offer.device_id, chosen=True)
    if settings.openai_api_key is not None:
        name = settings.openai_embed_model if verb == "embed" else settings.openai_model
        return _cloud("openai", name, verb, chosen=True)
    if settings.openrouter_api_key is not None and verb != "embed":
        return _cloud("openrouter", settings.openrouter_model, verb, chosen=True)
    sort = "an embedding model" if verb == "embed" else "a model"
    raise NoProvider(f"no machine with {sort} answers, and no cloud key is set", code="no_device")


def _local(model: str, verb: Verb, device_id: str | None, *, chosen: bool = False) -> Route:
    return Route(kind=f"ollama.{verb}", provider="ollama", model=model, device_id=device_id, chosen=chosen)


def _cloud(provider: str, model: str, verb: Verb, *, chosen: bool = False) -> Route:
    kind = f"{provider}.{'embed' if verb == 'embed' else 'chat'}"
    return Route(kind=kind, provider=provider, model=model, chosen=chosen)
