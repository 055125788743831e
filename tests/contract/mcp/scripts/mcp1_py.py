"""The MCP SDK of Python, its first major version, by HTTP or stdio."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from anyio import BrokenResourceError
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client
from pydantic import AnyUrl
from results import answer, text, tools, words
from seeing import GIVE_UP_S, LONG_TOKENS, TOLD, URL, WORDS, Looks, Seen, long_chat, look


async def connected(stack: AsyncExitStack) -> ClientSession:
    """Return a session, ended with the stack."""
    if WORDS == ["stdio"]:
        read, write = await stack.enter_async_context(stdio_client(StdioServerParameters(**TOLD["stdio"])))
    else:
        read, write, _ = await stack.enter_async_context(streamablehttp_client(URL))
    session = await stack.enter_async_context(ClientSession(read, write))
    await session.initialize()
    return session


async def main() -> None:
    """Look at all there is."""
    async with AsyncExitStack() as stack:
        session = await connected(stack)

        async def listed() -> list[Seen]:
            return tools((await session.list_tools()).tools)

        async def call(name: str, arguments: Seen) -> Seen:
            return answer(await session.call_tool(name, arguments, read_timeout_seconds=timedelta(seconds=60)))

        async def read(uri: str) -> str:
            return text((await session.read_resource(AnyUrl(uri))).contents)

        async def prompt(name: str, arguments: dict[str, str]) -> str:
            return words((await session.get_prompt(name, arguments)).messages)

        async def progress() -> Seen:
            told: list[Any] = []

            async def note(step: float, _total: float | None, message: str | None) -> None:
                told.append([step, message])

            _, asked = long_chat()
            result = await session.call_tool("llm_chat", {**asked, "max_tokens": LONG_TOKENS}, progress_callback=note)
            return {"told": told, "chat": answer(result)}

        looks = Looks(listed, call, read, prompt)
        await look(looks.tools, looks.chat, looks.job, progress, looks.cancelled, looks.errors)
        await look(looks.resources, looks.prompts)

    async def left() -> Seen:
        """It tells nobody that it gives up, but its session ends."""
        mark, asked = long_chat()
        ended = "left"
        try:
            async with AsyncExitStack() as stack:
                session = await connected(stack)
                waiting = asyncio.create_task(session.call_tool("llm_chat", asked))
                await asyncio.wait([waiting], timeout=GIVE_UP_S)
                if waiting.done():
                    ended = f"answered: {waiting.result()}"
                waiting.cancel()
        except* BrokenResourceError:
            pass  # it may find its own pipe closed
        return {"mark": mark, "ended": ended}

    await look(left)


if __name__ == "__main__":
    asyncio.run(main())
