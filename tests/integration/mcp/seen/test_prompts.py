"""Prompts a person picks: they say what is to be done, with what was given."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client, MCPError

from tests.integration.mcp.seen.stage import Stage

pytestmark = pytest.mark.anyio


async def words(client: Client, name: str, **arguments: str) -> str:
    """Return what a prompt says."""
    [message] = (await client.get_prompt(name, arguments)).messages
    assert message.role == "user"
    return str(getattr(message.content, "text", ""))


async def test_prompts(stage: Stage) -> None:
    async with stage.client() as client:
        prompts = {prompt.name: prompt for prompt in (await client.list_prompts()).prompts}
        assert list(prompts) == ["delegate", "compare_models", "queue_triage"]
        assert all(prompt.title and prompt.description for prompt in prompts.values())
        needed = {
            name: [argument.name for argument in prompt.arguments or [] if argument.required]
            for name, prompt in prompts.items()
        }
        assert needed == {"delegate": ["task"], "compare_models": ["prompt"], "queue_triage": []}
        task = await words(client, "delegate", task="Sum 1 to 9", quality="careful")
        assert task.endswith("Task:\nSum 1 to 9")
        assert "Quality wanted: careful." in task
        assert "a, b" in await words(client, "compare_models", prompt="Why?", models="a, b")
        assert "llm://queue" in await words(client, "queue_triage")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("nope", {}, "Unknown prompt: nope"),
        ("delegate", {}, "task: is required"),
        ("delegate", {"quality": "draft"}, "task: is required"),
    ],
)
async def test_a_prompt_that_cannot_be_had(stage: Stage, name: str, arguments: dict[str, Any], message: str) -> None:
    async with stage.client() as client:
        with pytest.raises(MCPError) as caught:
            await client.get_prompt(name, arguments)
        assert (caught.value.code, caught.value.message) == (-32602, message)
