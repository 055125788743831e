"""What every script of an MCP client is made of: looks at a server, of each of which it prints what the client saw.

Needs nothing but Python, for it runs in the client's own environment. Whether what was seen is right is judged by
whoever started the script, who can look behind the server too.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import sys
import traceback
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

TOLD: Mapping[str, Any] = json.loads(sys.argv[1])
"""Where the server is: `url`, of its MCP endpoint, and `stdio`, the command, arguments and environment to start it."""
URL: str = TOLD["url"]
WORDS = sys.argv[2:]
"""What the script is told beside that."""
PATIENCE_S = 60.0
GIVE_UP_S = 2.0
"""A caller that gives up waits so long."""
CHAT = {"prompt": "hello", "model": "tiny", "max_tokens": 12, "temperature": 0}
SUBMIT = {"kind": "chat", "prompt": "hello", "model": "tiny", "params_json": '{"max_tokens": 12}'}
LONG_TOKENS, ENDLESS_TOKENS = 800, 20_000
"""So many tokens take a while; so many longer than anybody waits."""
TASK = "count the cats"
_WORDS = 400

Seen = dict[str, Any]
Answer = dict[str, Any]
"""What a tool said as its client tells it: `failed`, `texts`, and `structured` (None where the client has none)."""


def long_chat() -> tuple[str, Seen]:
    """Return a mark that no other has, and arguments of a chat with it that takes longer than anybody waits."""
    mark = uuid.uuid4().hex
    return mark, {
        "prompt": f"the cat {mark}",
        "model": "tiny",
        "max_tokens": ENDLESS_TOKENS,
        "temperature": 0,
        "wait_s": 45,
    }


async def look(*looks: Callable[[], object]) -> None:
    """Take the looks, and print one JSON line for each: `check`, its name; `ok` and `told`; `saw`, what it returned."""
    for one in looks:
        saw, told = None, ""
        try:
            found = one()
            saw = await asyncio.wait_for(found, PATIENCE_S) if inspect.isawaitable(found) else found
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and the next look is taken
            told = _told(error)
        name = getattr(one, "__name__", "").rstrip("_")
        print(json.dumps({"check": name, "ok": not told, "told": told, "saw": saw}), flush=True)


def _told(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    frame = ([one for one in frames if one.filename == sys.argv[0]] or frames)[-1]
    return f"{type(error).__name__}: {str(error)[:_WORDS]} (line {frame.lineno}: {frame.line})"


def job_id(answer: Answer) -> str:
    """Return the id of the job that an answer tells of: from its words, as a model would read it, if it has any."""
    if not answer["texts"]:
        return str(answer["structured"]["job_id"])
    found = re.search(r"job_id[=\":\s]+([0-9a-f-]{36})", "\n".join(answer["texts"]))
    if found is None:
        raise AssertionError(f"no job_id in {answer['texts']}")
    return found[1]


class Looks:
    """The looks that any client can take, given how it does the four things a client does.

    Parameters: `tools`, lists the tools, each with `name`, `description` and `parameters`; `call`, calls one by its
    name and arguments; `read`, the text of a resource by its URI; `prompt`, the text of a prompt by its name and
    arguments. The last two may be left out by a client that has no such thing.
    """

    def __init__(
        self,
        tools: Callable[[], Awaitable[Sequence[Seen]]],
        call: Callable[[str, Seen], Awaitable[Answer]],
        read: Callable[[str], Awaitable[str]] | None = None,
        prompt: Callable[[str, dict[str, str]], Awaitable[str]] | None = None,
    ) -> None:
        self._tools = tools
        self._call = call
        self._read = read
        self._prompt = prompt

    async def tools(self) -> Seen:
        """Which tools there are, and what llm_chat takes."""
        found = {tool["name"]: tool for tool in await self._tools()}
        return {"names": sorted(found), "chat": found["llm_chat"]}

    async def chat(self) -> Seen:
        """An answer of a model."""
        return await self._call("llm_chat", CHAT)

    async def job(self) -> Seen:
        """A job that is submitted, waited for and read."""
        submitted = await self._call("llm_submit", SUBMIT)
        finished = await self._call("llm_job_status", {"job_id": job_id(submitted), "wait_s": 30})
        return {"submitted": submitted, "finished": finished}

    async def cancelled(self) -> Seen:
        """A job that is submitted and cancelled."""
        mark, _ = long_chat()
        asked = {"kind": "chat", "prompt": f"the cat {mark}", "model": "tiny", "params_json": '{"max_tokens": 20000}'}
        submitted = await self._call("llm_submit", asked)
        return {"submitted": submitted, "cancelled": await self._call("llm_job_cancel", {"job_id": job_id(submitted)})}

    async def errors(self) -> Seen:
        """Mistakes: a model that is not there, an argument of the wrong sort, a tool that is not there."""
        missing = await self._call("llm_chat", {**CHAT, "model": "nope"})
        wrong = await self._call("llm_chat", {**CHAT, "max_tokens": "many"})
        return {"missing": missing, "wrong": wrong}

    async def resources(self) -> Seen:
        """The list of models, and the result of a job, read as resources."""
        assert self._read is not None
        chat = await self._call("llm_chat", CHAT)
        result = await self._read(f"llm://jobs/{job_id(chat)}/result")
        return {"models": await self._read("llm://models"), "chat": chat, "result": result}

    async def prompts(self) -> Seen:
        """A prompt, filled in."""
        assert self._prompt is not None
        return {"text": await self._prompt("delegate", {"task": TASK})}

    async def left(self) -> Seen:
        """A caller that gives up: what became of its job is for others to see."""
        mark, asked = long_chat()
        return {"mark": mark, "ended": await gives_up(self._call("llm_chat", asked))}


async def gives_up(call: Awaitable[Any]) -> str:
    """Wait a little for a call, then cancel it; return how that ended."""
    try:
        return f"answered: {await asyncio.wait_for(call, GIVE_UP_S)}"
    except Exception as error:  # noqa: BLE001 - whichever it is of this client's
        return f"{type(error).__name__}: {str(error)[:_WORDS]}"
