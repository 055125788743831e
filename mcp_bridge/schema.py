"""Tools as hosts can take them: flat schemas, and refusals in one line.

Hosts choke on `$ref`, `$defs` and `anyOf`, and pay for every `title` with their context. Arguments are still checked
against the signature of the function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import ToolAnnotations
from pydantic import Field, ValidationError

from llm_mcp.errors import LlmMcpError

from . import refusals, untrusted


class BridgeTool(Tool):
    """A tool of ours: who may call it, and in which set it is."""

    scope: str = Field(exclude=True)
    """What a principal needs to see and to call it."""
    toolset: str = Field(exclude=True)

    async def run(self, arguments: dict[str, Any], context: Any, convert_result: bool = False) -> Any:
        """Call it. Raises ToolError in words a model can act on; MCPError as the tool does."""
        try:
            return await super().run(arguments, context, convert_result)
        except ToolError as error:
            cause = error.__cause__
            if isinstance(error, UnexpectedToolError):
                if isinstance(cause, LlmMcpError):
                    raise ToolError(refusals.words(cause)) from cause
            elif isinstance(cause, ValidationError):
                raise ToolError(_faults(cause)) from cause
            elif isinstance(cause, ToolError):
                raise ToolError(str(cause)) from cause
            raise


def tool(
    work: Callable[..., Any],
    *,
    title: str,
    description: str,
    scope: str,
    toolset: str = "core",
    reads: bool = False,
    destroys: bool = False,
    repeats: bool = False,
    open_world: bool = False,
) -> BridgeTool:
    """Return a function as a tool of its name.

    Parameters: what hosts are told of it: `reads`, it changes nothing; `destroys`, it may end what was; `repeats`,
    asked twice it does no more; `open_world`, it reaches beyond the caller's own machines.
    """
    hints = ToolAnnotations(
        title=title,
        read_only_hint=reads,
        destructive_hint=destroys,
        idempotent_hint=repeats,
        open_world_hint=open_world,
    )
    plain = Tool.from_function(work, title=title, description=description, annotations=hints)
    plain.fn_metadata.output_schema = flat(plain.fn_metadata.output_schema or {})
    return BridgeTool(
        **{name: getattr(plain, name) for name in Tool.model_fields if name != "parameters"},
        parameters=flat(plain.parameters),
        scope=scope,
        toolset=toolset,
    )


def flat(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without titles, and what it names in place of every `$ref`; no model of ours is its own part."""
    defined = schema.get("$defs", {})

    def walk(node: Any, *, names: bool = False) -> Any:
        if isinstance(node, list):
            return [walk(each) for each in node]
        if not isinstance(node, dict):
            return node
        if isinstance(ref := node.get("$ref"), str):
            whole = {**defined[ref.rpartition("/")[2]], **{key: node[key] for key in node if key != "$ref"}}
            return walk(whole)
        return {
            key: walk(value, names=key == "properties")
            for key, value in node.items()
            if names or key not in ("title", "$defs")
        }

    made: dict[str, Any] = walk(dict(schema))
    return made


def _faults(error: ValidationError) -> str:
    """Return what is wrong with the arguments, each named; what was given is not told."""
    found = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        name = ".".join(str(part) for part in fault["loc"]) or "arguments"
        words = "is required" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
        found.append(f"{untrusted.line(name)}: {words[:1].lower()}{words[1:]}")
    return "; ".join(found[:5])
