"""OpenAI's Agents SDK: the server's tools called by an agent, whose model is a puppet here."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

from agents import Agent, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.mcp import MCPServerStdio, MCPServerStreamableHttp
from agents.models.interface import Model
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from results import answer, text, tools, words
from seeing import CHAT, TOLD, URL, WORDS, Looks, Seen, long_chat, look

set_tracing_disabled(True)


def server(timeout_s: float) -> Any:
    """Return a connection whose calls may take so long."""
    if WORDS == ["http"]:
        return MCPServerStreamableHttp({"url": URL}, client_session_timeout_seconds=timeout_s)
    return MCPServerStdio(dict(TOLD["stdio"]), client_session_timeout_seconds=timeout_s)


class Puppet(Model):
    """A model that calls llm_chat once, then says what came of it."""

    def __init__(self) -> None:
        self.offered: list[str] = []
        self.loose: list[str] = []

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:  # noqa: A002 - as the SDK names it
        """Answer with a call, or with what the call brought."""
        offered = kwargs.get("tools") or args[1]
        self.offered = sorted(tool.name for tool in offered)
        self.loose = sorted(tool.name for tool in offered if not tool.strict_json_schema)
        outputs = [item["output"] for item in input if isinstance(item, dict) and "output" in item]
        if not outputs:
            call = ResponseFunctionToolCall(
                call_id="1", name="llm_chat", arguments=json.dumps(CHAT), type="function_call", id="1"
            )
            return ModelResponse(output=[call], usage=Usage(), response_id=None)
        said = ResponseOutputText(text=json.dumps(outputs[-1]), type="output_text", annotations=[])
        message = ResponseOutputMessage(id="2", role="assistant", status="completed", type="message", content=[said])
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        """Not asked for here."""
        raise NotImplementedError


async def main() -> None:
    """Look at all there is."""
    async with AsyncExitStack() as stack:
        connected = await stack.enter_async_context(server(60))

        async def listed() -> list[Seen]:
            return tools(await connected.list_tools())

        async def call(name: str, arguments: Seen) -> Seen:
            return answer(await connected.call_tool(name, arguments))

        async def read(uri: str) -> str:
            return text((await connected.read_resource(uri)).contents)

        async def prompt(name: str, arguments: dict[str, str]) -> str:
            return words((await connected.get_prompt(name, arguments)).messages)

        async def agent() -> Seen:
            puppet = Puppet()
            strict = {"convert_schemas_to_strict": True}
            asked = Agent(name="a", model=puppet, mcp_servers=[connected], mcp_config=strict)
            done = await Runner.run(asked, "hello")
            return {"offered": puppet.offered, "loose": puppet.loose, "output": done.final_output}

        looks = Looks(listed, call, read, prompt)
        await look(looks.tools, looks.chat, looks.job, looks.cancelled, looks.errors, agent)
        await look(looks.resources, looks.prompts)

    async def left() -> Seen:
        """Its own time-out ends the call."""
        mark, asked = long_chat()
        async with server(2) as hurried:
            try:
                ended = str(answer(await hurried.call_tool("llm_chat", asked)))
            except Exception as error:  # noqa: BLE001 - whichever it is of this client's
                ended = f"{type(error).__name__}: {error}"
        return {"mark": mark, "ended": ended}

    await look(left)


if __name__ == "__main__":
    asyncio.run(main())
