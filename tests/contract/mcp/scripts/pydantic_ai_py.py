"""Pydantic AI: the server as a toolset of an agent, whose model is the package's own stand-in."""

from __future__ import annotations

import asyncio

from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.test import TestModel
from results import answer, text, tools
from seeing import URL, Looks, Seen, look


async def main() -> None:
    """Look at all there is."""
    async with MCPToolset(URL) as toolset:

        async def listed() -> list[Seen]:
            return tools(await toolset.list_tools())

        async def call(name: str, arguments: Seen) -> Seen:
            return answer(await toolset.client.call_tool_mcp(name, arguments))

        async def read(uri: str) -> str:
            found = await toolset.read_resource(uri)
            return found if isinstance(found, str) else text(found)

        async def agent() -> Seen:
            model = TestModel(call_tools=["llm_models"])
            done = await Agent(model, toolsets=[toolset]).run("hello")
            asked = model.last_model_request_parameters
            return {"offered": sorted(tool.name for tool in asked.function_tools), "output": str(done.output)}

        looks = Looks(listed, call, read)
        await look(looks.tools, looks.chat, looks.job, looks.cancelled, looks.errors, agent, looks.resources)


if __name__ == "__main__":
    asyncio.run(main())
