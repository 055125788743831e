"""The client of FastMCP, of whichever major version, by HTTP or stdio."""

from __future__ import annotations

import asyncio
from typing import Any

from fastmcp import Client
from results import answer, text, tools, words
from seeing import LONG_TOKENS, TOLD, URL, WORDS, Looks, Seen, long_chat, look

SERVER = URL if WORDS == ["http"] else {"mcpServers": {"llm": dict(TOLD["stdio"])}}


async def main() -> None:
    """Look at all there is."""
    told: list[Any] = []

    async def note(step: float, _total: float | None, message: str | None) -> None:
        told.append([step, message])

    async with Client(SERVER, progress_handler=note) as client:

        async def listed() -> list[Seen]:
            return tools(await client.list_tools())

        async def call(name: str, arguments: Seen) -> Seen:
            return answer(await client.call_tool_mcp(name, arguments))

        async def read(uri: str) -> str:
            return text(await client.read_resource(uri))

        async def prompt(name: str, arguments: dict[str, str]) -> str:
            return words((await client.get_prompt(name, arguments)).messages)

        async def progress() -> Seen:
            told.clear()
            _, asked = long_chat()
            return {"told": told, "chat": await call("llm_chat", {**asked, "max_tokens": LONG_TOKENS})}

        looks = Looks(listed, call, read, prompt)
        await look(looks.tools, looks.chat, looks.job, progress, looks.cancelled, looks.errors)
        await look(looks.resources, looks.prompts, looks.left)


if __name__ == "__main__":
    asyncio.run(main())
