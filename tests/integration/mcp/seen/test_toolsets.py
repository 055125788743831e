"""Which tools there are: by settings, by their old names, and none that is not."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import PaginatedRequestParams

from llm_mcp import config
from llm_mcp.errors import SetupError
from llm_mcp.mcp_bridge.server import create_server
from tests.integration.mcp.seen.stage import Make, Stage, said, told


@pytest.mark.anyio
async def test_only_what_changes_nothing(make: Make) -> None:
    async with make(mcp_read_only=True) as stage, stage.client() as client:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == {
            "llm_embed",
            "llm_job_status",
            "llm_jobs",
            "llm_models",
            "llm_devices",
            "llm_benchmarks",
        }
        assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in tools)
        for name in ("llm_chat", "llm_request", "llm_submit", "llm_job_cancel"):
            with pytest.raises(MCPError) as caught:
                await client.call_tool(name, {"prompt": "x", "job_id": "x"})
            assert (caught.value.code, caught.value.message) == (-32602, f"Unknown tool: {name}")


@pytest.mark.anyio
async def test_a_set_that_is_empty(make: Make) -> None:
    async with make(mcp_toolsets="ops") as stage, stage.client() as client:
        assert (await client.list_tools()).tools == []


def test_a_set_that_is_not_known() -> None:
    settings = config.load(mcp_toolsets="core,magic")
    with pytest.raises(SetupError, match="LLM_MCP_TOOLSETS: no such set 'magic'"):
        create_server(lambda: None, settings)


@pytest.mark.anyio
async def test_old_names_are_called_and_not_listed(stage: Stage) -> None:
    async with stage.client() as client:
        assert not {"llm_request", "llm_model_stats"} & {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool("llm_request", {"model": "tiny", "prompt": "hi", "wait_s": 0})
        assert told(result)["status"] == "queued"
        await stage.core.cancel(told(result)["job_id"], principal="local")
        assert "qwen3:8b" in said(await client.call_tool("llm_model_stats", {}))


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["nope", "llm_costs", "llm_balance", "", "x" * 500, "evil\u202e\x1b"])
async def test_a_tool_that_is_not_there_is_a_mistake_of_the_client(stage: Stage, name: str) -> None:
    async with stage.client() as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool(name, {})
        assert caught.value.code == -32602
        assert len(caught.value.message) < 120
        assert caught.value.message.isprintable()


@pytest.mark.anyio
async def test_a_cursor_that_leads_nowhere(stage: Stage) -> None:
    async def listed(client: Client) -> list[Any]:
        params = PaginatedRequestParams(cursor="garbage")
        return [
            client.session.list_tools(params=params),
            client.session.list_resources(params=params),
            client.session.list_resource_templates(params=params),
            client.session.list_prompts(params=params),
        ]

    async with stage.client() as client:
        for call in await listed(client):
            with pytest.raises(MCPError) as caught:
                await call
            assert caught.value.code == -32602
        assert (await client.list_tools()).tools
