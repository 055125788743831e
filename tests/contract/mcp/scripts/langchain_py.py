"""LangChain's adapters: the tools as LangChain's own, resources as blobs, prompts as messages."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools
from seeing import TOLD, URL, WORDS, Looks, Seen, look

CONNECTION: dict[str, Any] = (
    {"transport": "http", "url": URL} if WORDS == ["http"] else {"transport": "stdio", **TOLD["stdio"]}
)


async def main() -> None:
    """Look at all there is."""
    client = MultiServerMCPClient({"llm": CONNECTION})
    async with client.session("llm") as session:
        found = {tool.name: tool for tool in await load_mcp_tools(session)}

        async def listed() -> list[Seen]:
            return [
                {"name": tool.name, "description": tool.description, "parameters": tool.args_schema}
                for tool in found.values()
            ]

        async def call(name: str, arguments: Seen) -> Seen:
            asked = {"type": "tool_call", "name": name, "args": arguments, "id": "1"}
            try:
                message = await found[name].ainvoke(asked)
            except Exception as error:  # noqa: BLE001 - an adapter may raise what a tool says went wrong
                return {"failed": True, "texts": [str(error)], "structured": None}
            texts = (
                [part["text"] for part in message.content] if isinstance(message.content, list) else [message.content]
            )
            structured = (message.artifact or {}).get("structured_content")
            return {"failed": message.status == "error", "texts": texts, "structured": structured}

        async def read(uri: str) -> str:
            return "".join(blob.as_string() for blob in await client.get_resources("llm", uris=[uri]))

        async def prompt(name: str, arguments: dict[str, str]) -> str:
            messages = await client.get_prompt("llm", name, arguments=arguments)
            return "\n".join(str(message.content) for message in messages)

        looks = Looks(listed, call, read, prompt)
        await look(looks.tools, looks.chat, looks.job, looks.cancelled, looks.errors, looks.resources, looks.prompts)


if __name__ == "__main__":
    asyncio.run(main())
