"""The payloads of the kinds we ship."""

from __future__ import annotations

from typing import Any

import pytest

from llm_mcp.errors import InvalidInput
from llm_mcp.kinds import KINDS, Kind
from llm_mcp.payloads import Chat, Embed, Generate


def kind(name: str) -> Kind:
    found = KINDS.get(name)
    assert found is not None
    return found


def test_the_shipped_kinds() -> None:
    models = {
        found.name: found.payload
        for found in KINDS
        if found.name.split(".")[0] in ("echo", "ollama", "openai", "openrouter")
    }
    assert models == {
        "echo": None,
        "ollama.generate": Generate,
        "ollama.chat": Chat,
        "ollama.embed": Embed,
        "openai.chat": Chat,
        "openai.embed": Embed,
        "openrouter.chat": Chat,
        "openrouter.embed": Embed,
    }


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("ollama.generate", {}),
        ("ollama.generate", {"prompt": "", "keep_alive": 0}),
        ("ollama.generate", {"prompt": "x", "temperature": 0, "max_tokens": 5.0, "thinking": None, "_tier": "small"}),
        ("openai.chat", {"prompt": "x"}),
        ("openai.chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}),
        ("openai.chat", {"messages": [{"role": "assistant", "content": None, "tool_calls": []}], "tools": []}),
        ("ollama.embed", {"input": ["a", "b"]}),
        ("openai.embed", {"prompt": "a", "dimensions": 3}),
    ],
)
def test_what_clients_send_is_taken_whole(name: str, payload: dict[str, Any]) -> None:
    assert kind(name).validate(payload).model_dump(exclude_unset=True) == payload


@pytest.mark.parametrize(
    ("name", "payload", "field"),
    [
        ("ollama.generate", [], "payload"),
        ("ollama.generate", {"prompt": 1}, "payload.prompt"),
        ("ollama.generate", {"prompt": "x", "temperature": "0.7"}, "payload.temperature"),
        ("ollama.generate", {"prompt": "x", "temperature": True}, "payload.temperature"),
        ("ollama.generate", {"prompt": "x", "max_tokens": 1.5}, "payload.max_tokens"),
        ("ollama.generate", {"prompt": "x", "thinking": "yes"}, "payload.thinking"),
        ("ollama.generate", {"prompt": "x", "images": "a"}, "payload.images"),
        ("openai.chat", {}, "payload"),
        ("openai.chat", {"messages": []}, "payload"),
        ("openai.chat", {"messages": [{"content": "x"}]}, "payload.messages.0.role"),
        ("openai.chat", {"messages": [{"role": "user", "content": 3}]}, "payload.messages.0.content"),
        ("openrouter.chat", {"prompt": None}, "payload"),
        ("ollama.embed", {}, "payload"),
        ("openai.embed", {"input": [1, 2]}, "payload.input.0"),
    ],
)
def test_what_no_provider_could_use_is_refused_by_its_field(name: str, payload: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        kind(name).validate(payload)
    assert (caught.value.field, caught.value.code) == (field, "invalid_payload")


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(InvalidInput) as caught:
        kind("ollama.generate").validate({"prompt": ["my secret"]})
    assert "secret" not in str(caught.value)
