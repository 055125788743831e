"""What every message goes past before the SDK looks at it: old names of tools, scopes, names and cursors of nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp_types import INVALID_PARAMS

from . import refusals
from .aliases import now_called
from .principal import READ, SUBMIT, current
from .schema import BridgeTool

_LISTS = frozenset({"tools/list", "resources/list", "resources/templates/list", "prompts/list"})
# What needs a scope though no tool is called.
_SCOPES = {
    "resources/read": READ,
    "resources/subscribe": READ,
    "completion/complete": READ,
    "tasks/get": SUBMIT,
    "tasks/update": SUBMIT,
    "tasks/cancel": SUBMIT,
}


class Gate:
    """A middleware. Parameters: `tools`, ours, with the scopes they need."""

    def __init__(self, tools: Sequence[BridgeTool]) -> None:
        self._scopes = {tool.name: tool.scope for tool in tools}
        self._server: MCPServer[Any]

    def guard(self, server: MCPServer[Any]) -> None:
        """Look up names in this server, which may get more of them. Called before the first message."""
        self._server = server

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Pass a message on, or refuse it with MCPError."""
        params: Mapping[str, Any] = ctx.params or {}
        if ctx.method in _LISTS and params.get("cursor"):
            raise MCPError(INVALID_PARAMS, "no such cursor: this list has one page")
        if ctx.method in _SCOPES:
            refusals.require(_SCOPES[ctx.method])
        name = params.get("name")
        if ctx.method == "tools/call" and isinstance(name, str):
            called = now_called(name)
            await self._may_call(called, name)
            if called != name:
                ctx = dataclasses.replace(ctx, params={**params, "name": called})
        if ctx.method == "prompts/get" and isinstance(name, str):
            await self._may_get(name, params.get("arguments"))
        told = await call_next(ctx)
        return self._seen(told) if ctx.method == "tools/list" else told

    async def _may_call(self, called: str, name: str) -> None:
        if called in self._scopes:  # of ours there is no need to ask: each list describes all tools anew
            refusals.require(self._scopes[called])
        elif called not in {tool.name for tool in await self._server.list_tools()}:
            raise refusals.unknown("tool", name)

    async def _may_get(self, name: str, arguments: Any) -> None:
        found = next((prompt for prompt in await self._server.list_prompts() if prompt.name == name), None)
        if found is None:
            raise refusals.unknown("prompt", name)
        given = arguments if isinstance(arguments, Mapping) else {}
        for argument in found.arguments or []:
            if argument.required and argument.name not in given:
                raise MCPError(INVALID_PARAMS, f"{argument.name}: is required")

    def _seen(self, told: HandlerResult) -> HandlerResult:
        """Return a list of tools without those that this principal may not call."""
        if not isinstance(told, dict):
            return told
        held = current().scopes
        return {**told, "tools": [tool for tool in told["tools"] if self._scopes.get(tool["name"], "") in {*held, ""}]}
