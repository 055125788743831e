"""smolagents: the server's tools as its own, which return text or, when asked, an object."""

from __future__ import annotations

import asyncio

from seeing import TOLD, URL, WORDS, Looks, Seen, look
from smolagents import MCPClient


def main() -> None:
    """Look at all there is."""
    if WORDS == ["http"]:
        where = {"url": URL, "transport": "streamable-http"}
    else:
        from mcp import StdioServerParameters

        where = StdioServerParameters(**TOLD["stdio"])
    with MCPClient(where, structured_output=True) as listed_tools:
        found = {tool.name: tool for tool in listed_tools}

        async def listed() -> list[Seen]:
            return [
                {"name": name, "description": tool.description, "parameters": {"properties": tool.inputs}}
                for name, tool in found.items()
            ]

        async def call(name: str, arguments: Seen) -> Seen:
            try:
                said = found[name](**arguments)
            except Exception as error:  # noqa: BLE001 - what a tool says went wrong may be raised
                return {"failed": True, "texts": [str(error)], "structured": None}
            if isinstance(said, dict):
                return {"failed": False, "texts": [], "structured": said}
            return {"failed": None, "texts": [str(said)], "structured": None}

        looks = Looks(listed, call)
        asyncio.run(look(looks.tools, looks.chat, looks.job, looks.cancelled, looks.errors))


if __name__ == "__main__":
    main()
