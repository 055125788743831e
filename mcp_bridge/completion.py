"""What a person may mean who has begun to type: names of models, and ids of jobs."""

from __future__ import annotations

from typing import Any

from mcp.server import MCPServer
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from llm_mcp.errors import LlmMcpError

from . import untrusted
from .door import Door
from .principal import current

_MOST = 100
_QUALITIES = ("draft", "standard", "careful")


def register(server: MCPServer[Any], door: Door) -> None:
    """Have a server complete the arguments of its prompts and addresses."""

    async def complete(
        _of: PromptReference | ResourceTemplateReference, argument: CompletionArgument, _with: CompletionContext | None
    ) -> Completion:
        try:
            return await _complete(door, argument)
        except LlmMcpError:  # nobody is helped by an error while typing
            return Completion(values=[])

    server.completion()(complete)  # type: ignore[no-untyped-call] # the SDK gives it no types


async def _complete(door: Door, argument: CompletionArgument) -> Completion:
    if argument.name == "quality":
        return _told(list(_QUALITIES), argument.value)
    if argument.name in ("model", "models"):
        # Of several names the last is being typed.
        before, comma, typed = argument.value.rpartition(",")
        names = sorted({untrusted.line(model.name) for model in await door.models()})
        return _told(names, typed.strip(), lead=f"{before}{comma}" if comma else "")
    if argument.name == "job_id":
        jobs, _ = await door.core().jobs(principal=current().name, limit=_MOST)
        return _told([job.id for job in jobs], argument.value)
    return Completion(values=[])


def _told(values: list[str], typed: str, *, lead: str = "") -> Completion:
    found = [f"{lead}{value}" for value in values if value.startswith(typed)]
    return Completion(values=found[:_MOST], total=len(found), has_more=len(found) > _MOST)
