"""The tools that have a model do something: ask and wait for the answer, or submit and come again for it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from llm_mcp import strictjson
from llm_mcp.errors import InvalidInput

from .. import answers
from ..answers import JobResult
from ..attendance import question
from ..door import Door
from ..principal import SUBMIT, current
from ..schema import BridgeTool, tool
from ..tasks import TaskStarted, declared, task_of
from . import words

# Nobody waits for what was submitted: it may stand in the queue for a day, s.
_DAY_S = 86_400.0
# What says where a call goes is chosen by a model's name only.
_RESERVED = frozenset({"model", "device_id", "ollama_addr", "ollama_host", "base_url"})

Kind = Annotated[
    Literal["chat", "generate", "embed", "echo"],
    Field(description="chat; generate: no chat template; embed: vectors; echo: no model, for trying out"),
]
Texts = Annotated[list[words.Text], Field(max_length=words.MOST_TEXTS, description="What to embed")]
Params = Annotated[
    str, Field(max_length=1_000_000, description='More fields as a JSON object, e.g. {"messages": [], "options": {}}')
]
MaybeTokens = Annotated[int, Field(ge=0, le=1_000_000, description="0: the model's own")]
MaybeTemperature = Annotated[float, Field(ge=-1, le=2, description="-1: the model's own")]
Priority = Annotated[int, Field(ge=-100, le=100, description="Higher goes first")]


def tools(door: Door) -> list[BridgeTool]:
    """Return the tools."""

    async def llm_chat(
        ctx: Context[Any, Any],
        prompt: words.Prompt,
        system: words.System = "",
        model: words.Model = "auto",
        max_tokens: words.MaxTokens = 1024,
        temperature: words.Temperature = 0.7,
        allow_cloud: words.AllowCloud = False,
        wait_s: words.WaitS = 45,
        idempotency_key: words.Key = "",
    ) -> JobResult:
        principal = current().name
        await door.admit(model, "chat", allow_cloud=allow_cloud)
        payload = {"prompt": prompt, "max_tokens": max_tokens, "temperature": temperature}
        if system:
            payload["system"] = system
        known = {"model": model, "key": idempotency_key, "cloud": allow_cloud}
        asked = question(principal, "llm_chat", {**payload, **known})
        options: dict[str, Any] = {
            "principal": principal,
            "model": model or "auto",
            "local_only": not allow_cloud,
            "deadline_s": door.settings.mcp_deadline_s,
            "idempotency_key": idempotency_key,
        }
        if declared(ctx):
            taken = door.attendance.take_up(asked)
            job_id = taken or (await door.submit("chat", payload, **options))[0].id
            job, _ = await door.job(job_id, principal=principal)
            raise TaskStarted(task_of(job, door.settings))
        job, said = await door.ask("chat", payload, ctx, question=asked, wait_s=wait_s, **options)
        return answers.answer(job, said, failed_is_error=True)

    async def llm_submit(
        ctx: Context[Any, Any],
        kind: Kind = "chat",
        prompt: words.MaybePrompt = "",
        system: words.System = "",
        texts: Texts = [],  # noqa: B006 - read only; a model is shown an empty list, not null
        model: words.Model = "auto",
        max_tokens: MaybeTokens = 0,
        temperature: MaybeTemperature = -1,
        params_json: Params = "",
        allow_cloud: words.AllowCloud = False,
        priority: Priority = 0,
        wait_s: words.WaitS = 0,
        idempotency_key: words.Key = "",
    ) -> JobResult:
        principal = current().name
        more: dict[str, Any] = {}
        if max_tokens:
            more["max_tokens"] = max_tokens
        if temperature >= 0:
            more["temperature"] = temperature
        payload = _payload(kind, prompt, system, list(texts), more | _more(params_json))
        if kind != "echo":
            await door.admit(model, kind, allow_cloud=allow_cloud)
        job, said = await door.submit(
            kind,
            payload,
            principal=principal,
            wait_s=wait_s,
            model="" if kind == "echo" else model or "auto",
            local_only=not allow_cloud,
            priority=priority,
            deadline_s=_DAY_S,
            idempotency_key=idempotency_key,
        )
        if wait_s and not answers.final(job):
            job, said = await door.follow(job.id, ctx, principal=principal, wait_s=wait_s)
        return answers.answer(job, said)

    return [
        tool(
            llm_chat,
            title="Ask a language model",
            description="Ask a language model of the user's own fleet and wait for its answer. "
            "A long one comes back as running, with a job_id for llm_job_status.",
            scope=SUBMIT,
            open_world=door.reaches_out,
        ),
        tool(
            llm_submit,
            title="Submit a job",
            description="Hand in a job and return at once, or after wait_s, with its job_id for llm_job_status.",
            scope=SUBMIT,
            repeats=True,
            open_world=door.reaches_out,
        ),
    ]


def _more(params_json: str) -> dict[str, Any]:
    """Return the further fields of a payload. Raises ToolError."""
    if not params_json:
        return {}
    try:
        found = strictjson.loads(params_json, limit_bytes=len(params_json) * 4)
    except InvalidInput as error:
        raise ToolError(f"params_json: {error}") from None
    if not isinstance(found, dict):
        raise ToolError("params_json: must be a JSON object")
    if taken := sorted(_RESERVED & found.keys()):
        raise ToolError(f"params_json: {taken[0]} cannot be given here; model is an argument of its own")
    return found


def _payload(kind: str, prompt: str, system: str, texts: list[str], more: dict[str, Any]) -> dict[str, Any]:
    """Return the payload of a kind. Raises ToolError naming what is missing."""
    if kind == "embed":
        if not texts and not prompt and "input" not in more:
            raise ToolError("texts: is required for embed")
        return {"input": texts or [prompt], **more}
    given = {"prompt": prompt, "system": system}
    if kind != "echo" and not prompt and "messages" not in more:
        raise ToolError("prompt: is required (or messages in params_json)")
    return {**{name: value for name, value in given.items() if value}, **more}
