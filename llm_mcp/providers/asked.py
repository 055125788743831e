"""Reading a job's payload: what is ours in it, and what the provider should see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Ours: routing, bookkeeping, and addresses, which are never dialled and never passed on. Whatever else a payload holds
# is the provider's to understand.
_OURS = frozenset(
    {
        "constraints",
        "deadline_at",
        "device_id",
        "idempotency_key",
        "max_attempts",
        "ollama_addr",
        "ollama_base_url",
        "ollama_host",
        "price_in_1m",
        "price_out_1m",
        "priority",
        "provider",
        "quality",
        "source",
        "stream",
        "stream_options",
        "task",
    }
)
# Read by each dialect and sent under its own names.
_TRANSLATED = frozenset(
    {"input", "max_tokens", "messages", "model", "options", "prompt", "system", "temperature", "thinking"}
)


def passed_on(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a payload that a provider gets as they are: neither ours nor translated, and set."""
    return {
        name: value
        for name, value in asked.items()
        if name not in _OURS and name not in _TRANSLATED and not name.startswith("_") and value is not None
    } | _preferences(asked)


def _preferences(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return OpenRouter's `provider`, an object of preferences; where it is a name, it is ours."""
    preferences = asked.get("provider")
    return {"provider": preferences} if isinstance(preferences, dict) else {}


def options_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a payload's `options`, without the `system` some clients put there."""
    return {name: value for name, value in (asked.get("options") or {}).items() if name != "system"}


def system_of(asked: Mapping[str, Any]) -> str | None:
    """Return the system prompt: the payload's own, else the one in its options."""
    system = asked.get("system") or (asked.get("options") or {}).get("system")
    return system if isinstance(system, str) and system else None


def messages_of(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of a chat: those given, else the prompt as one; before them the system prompt they lack."""
    messages = list(asked.get("messages") or [])
    if not messages and asked.get("prompt") is not None:
        messages = [{"role": "user", "content": asked["prompt"]}]
    system = system_of(asked)
    if system and not any(message.get("role") == "system" for message in messages):
        messages.insert(0, {"role": "system", "content": system})
    return messages


def texts_of(asked: Mapping[str, Any]) -> str | list[str]:
    """Return what is to be embedded: `input` as it is, else the one `prompt`."""
    given = asked.get("input")
    text: str | list[str] = asked.get("prompt", "") if given is None else given
    return text


def secrets_of(asked: Mapping[str, Any]) -> list[str]:
    """Return the texts of a payload that no error message may repeat."""
    found: list[str] = []
    todo: list[Any] = [asked.get(name) for name in ("prompt", "system", "input", "messages", "suffix")]
    todo.append(system_of(asked))
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, dict):
            todo.extend(item.get(name) for name in ("content", "text"))
    return found
