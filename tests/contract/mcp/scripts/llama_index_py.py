"""LlamaIndex: the server's tools as LlamaIndex's own, its resources and prompts by the package's client."""

from __future__ import annotations

import asyncio

from llama_index.tools.mcp import BasicMCPClient, McpToolSpec
from results import answer, text
from seeing import TOLD, URL, WORDS, Looks, Seen, look


async def main() -> None:
    """Look at all there is."""
    stdio = TOLD["stdio"]
    client = (
        BasicMCPClient(URL, timeout=60)
        if WORDS == ["http"]
        else BasicMCPClient(stdio["command"], args=stdio["args"], env=stdio["env"], timeout=60)
    )
    found = {tool.metadata.name: tool for tool in await McpToolSpec(client).to_tool_list_async()}

    async def listed() -> list[Seen]:
        return [
            {
                "name": name,
                "description": tool.metadata.description,
                "parameters": tool.metadata.fn_schema.model_json_schema(),
            }
            for name, tool in found.items()
        ]

    async def call(name: str, arguments: Seen) -> Seen:
        output = (await found[name].acall(**arguments)).raw_output
        return answer(output)

    async def read(uri: str) -> str:
        return text((await client.read_resource(uri)).contents)

    async def prompt(name: str, arguments: dict[str, str]) -> str:
        return "\n".join(str(message.content) for message in await client.get_prompt(name, arguments))

    looks = Looks(listed, call, read, prompt)
    await look(looks.tools, looks.chat, looks.job, looks.cancelled, looks.errors, looks.resources, looks.prompts)


if __name__ == "__main__":
    asyncio.run(main())
