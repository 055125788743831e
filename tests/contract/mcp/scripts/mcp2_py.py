"""The MCP SDK of Python, its second major version, in either era of the protocol, by HTTP or stdio."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Literal

from mcp import Client, StdioServerParameters
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp_types import CallToolResult, Request, RequestParams, Result
from results import answer, text, tools, words
from seeing import CHAT, LONG_TOKENS, TOLD, URL, WORDS, Looks, Seen, gives_up, long_chat, look

MODE, WAY = WORDS
SERVER = URL if WAY == "http" else StdioServerParameters(**TOLD["stdio"])
TASKS = "io.modelcontextprotocol/tasks"


class Started(Result):
    """What a tool answers that became a task."""

    result_type: Literal["task"] = "task"
    task_id: str
    poll_interval_ms: int = 1000


class Name(RequestParams):
    """Which task is meant."""

    task_id: str


class Get(Request[Name, Literal["tasks/get"]]):
    """Asks how a task does."""

    method: Literal["tasks/get"] = "tasks/get"
    name_param: ClassVar[str | None] = "taskId"


class Cancel(Request[Name, Literal["tasks/cancel"]]):
    """Asks for the end of a task."""

    method: Literal["tasks/cancel"] = "tasks/cancel"
    name_param: ClassVar[str | None] = "taskId"


class State(Result):
    """How a task does."""

    task_id: str
    status: str
    poll_interval_ms: int = 1000
    result: dict[str, Any] | None = None


class Tasks(ClientExtension):
    """Takes tasks for an answer, and asks until they are over."""

    identifier = TASKS

    def __init__(self) -> None:
        self.told: list[str] = []
        self.task_id = ""

    def claims(self) -> list[ResultClaim[Any]]:
        """What may come in place of an answer."""
        return [ResultClaim(result_type="task", model=Started, resolve=self.resolve)]

    async def resolve(self, started: Started, context: ClaimContext) -> CallToolResult:
        """Ask until the task is over, and return what came of it."""
        self.task_id = started.task_id
        asked = Name(task_id=started.task_id)
        try:
            while True:
                state = await context.session.send_request(Get(params=asked), State)
                self.told.append(state.status)
                if state.result is not None:
                    return CallToolResult.model_validate(state.result)
                assert state.status in ("working", "input_required"), state.status
                await asyncio.sleep(min(state.poll_interval_ms, 1000) / 1000)
        except asyncio.CancelledError:
            await asyncio.shield(context.session.send_request(Cancel(params=asked), Result))
            raise


async def main() -> None:
    """Look at all there is."""
    async with Client(SERVER, mode=MODE) as client:

        async def listed() -> list[Seen]:
            return tools((await client.list_tools()).tools)

        async def call(name: str, arguments: Seen) -> Seen:
            return answer(await client.call_tool(name, arguments))

        async def read(uri: str) -> str:
            return text((await client.read_resource(uri)).contents)

        async def prompt(name: str, arguments: dict[str, str]) -> str:
            return words((await client.get_prompt(name, arguments)).messages)

        async def progress() -> Seen:
            told: list[Any] = []

            async def note(step: float, _total: float | None, message: str | None) -> None:
                told.append([step, message])

            _, asked = long_chat()
            result = await client.call_tool("llm_chat", {**asked, "max_tokens": LONG_TOKENS}, progress_callback=note)
            return {"told": told, "chat": answer(result)}

        def era() -> Seen:
            return {"asked": MODE, "version": client.protocol_version}

        async def unknown() -> Seen:
            try:
                return {"answer": answer(await client.call_tool("nope", {}))}
            except Exception as error:  # noqa: BLE001 - what it is, is told
                return {"code": getattr(error, "code", None), "text": str(error)}

        looks = Looks(listed, call, read, prompt)
        await look(era, looks.tools, looks.chat, looks.job, progress, looks.cancelled, looks.errors, unknown)
        await look(looks.resources, looks.prompts, looks.left)
    if MODE == "auto":
        await look(task, task_left)


async def task() -> Seen:
    """A chat that becomes a task."""
    tasks = Tasks()
    async with Client(SERVER, mode=MODE, extensions=[tasks]) as client:
        chat = answer(await client.call_tool("llm_chat", CHAT))
    return {"task_id": tasks.task_id, "told": tasks.told, "chat": chat}


async def task_left() -> Seen:
    """A task whose caller gives up."""
    tasks = Tasks()
    mark, asked = long_chat()
    async with Client(SERVER, mode=MODE, extensions=[tasks]) as client:
        return {"mark": mark, "ended": await gives_up(client.call_tool("llm_chat", asked)), "task_id": tasks.task_id}


if __name__ == "__main__":
    asyncio.run(main())
