"""Long work as tasks: the extension `io.modelcontextprotocol/tasks`, over whatever keeps them.

A tool that has begun something durable raises `TaskStarted`; a client that knows tasks gets a task for it and asks
`tasks/get` until it is finished. Nothing of a task is kept here: its store has it all, so a task outlives the bridge.
Only clients of protocol 2026-07-28 that say they know tasks are given one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol

from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import Context, require_client_extension
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import HEADER_MISMATCH, INTERNAL_ERROR, INVALID_PARAMS, CallToolRequestParams, RequestParams
from pydantic import Field

from llm_mcp.config import Settings
from llm_mcp.rpc import llm_pb2 as pb

from . import answers

EXTENSION: Final = "io.modelcontextprotocol/tasks"
PROTOCOLS: Final = frozenset({"2026-07-28"})
_DAY_MS = 86_400_000
# How often a client should look: each second at first, then every five.
_POLL_MS, _LATER_POLL_MS, _LATER_S = 1000, 5000, 60.0

Status = Literal["working", "input_required", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as its client sees it.

    Parameters: `created_at` and `updated_at`, RFC 3339; `ttl_ms`, how long it is kept from its creation, None: for
    ever; `poll_ms`, how often to look; `result`, of a completed one, what the request would have returned; `error`, of
    a failed one, a JSON-RPC error; `input_requests`, of one that needs them, what the client is asked, by key.
    """

    task_id: str
    status: Status
    created_at: str
    updated_at: str
    ttl_ms: int | None
    poll_ms: int = _POLL_MS
    message: str = ""
    result: Mapping[str, Any] | None = field(default=None, repr=False)
    error: Mapping[str, Any] | None = field(default=None, repr=False)
    input_requests: Mapping[str, Any] | None = field(default=None, repr=False)

    def wire(self, *, detailed: bool) -> dict[str, Any]:
        """Return it as it travels; `detailed`, with what its status brings."""
        told: dict[str, Any] = {
            "taskId": self.task_id,
            "status": self.status,
            "createdAt": self.created_at,
            "lastUpdatedAt": self.updated_at,
            "ttlMs": self.ttl_ms,
            "pollIntervalMs": self.poll_ms,
        }
        if self.message:
            told["statusMessage"] = self.message
        if detailed:
            more = {
                "completed": ("result", self.result),
                "failed": ("error", self.error),
                "input_required": ("inputRequests", self.input_requests),
            }
            if self.status in more:
                name, value = more[self.status]
                told[name] = dict(value or {})
        return told


class TaskStore(Protocol):
    """What keeps tasks of one sort. It shows a caller that caller's tasks only."""

    async def get(self, task_id: str) -> Task | None:
        """Return a task, None when this store has none of that id."""
        ...

    async def update(self, task_id: str, answers: Mapping[str, Any]) -> bool:
        """Take what the client answers, by the keys it was asked under; others mean nothing. False: no such task."""
        ...

    async def cancel(self, task_id: str) -> bool:
        """End a task; a finished one stays as it is. False: no such task."""
        ...


class TaskStarted(MCPError):
    """What a tool raises when a task stands for its result: no other error comes out of a tool as it is.

    Raise it only where `declared` says that the client can take it.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(INTERNAL_ERROR, "this task cannot be told")
        self.task = task


class _TaskParams(RequestParams):
    task_id: str


class _UpdateParams(_TaskParams):
    input_responses: dict[str, Any] = Field(default_factory=dict)


class Tasks(Extension):
    """The extension. Parameters: `stores`, asked one after the other for a task."""

    identifier = EXTENSION

    def __init__(self, stores: Sequence[TaskStore]) -> None:
        self._stores = stores

    def methods(self) -> Sequence[MethodBinding]:
        """Return the requests it answers."""
        return [
            MethodBinding("tasks/get", _TaskParams, self._get, PROTOCOLS),
            MethodBinding("tasks/update", _UpdateParams, self._update, PROTOCOLS),
            MethodBinding("tasks/cancel", _TaskParams, self._cancel, PROTOCOLS),
        ]

    async def intercept_tool_call(
        self,
        params: CallToolRequestParams,  # noqa: ARG002 - the SDK's signature
        ctx: ServerRequestContext[Any, Any],
        call_next: CallNext,
    ) -> HandlerResult:
        """Return the task that a tool began in place of its result."""
        try:
            return await call_next(ctx)
        except TaskStarted as started:
            return {"resultType": "task", **started.task.wire(detailed=False)}

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: _TaskParams) -> HandlerResult:
        _check(ctx, params)
        for store in self._stores:
            task = await store.get(params.task_id)
            if task is not None:
                return task.wire(detailed=True)
        raise _no_such_task()

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: _UpdateParams) -> HandlerResult:
        _check(ctx, params)
        for store in self._stores:
            if await store.update(params.task_id, params.input_responses):
                return {}
        raise _no_such_task()

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: _TaskParams) -> HandlerResult:
        _check(ctx, params)
        for store in self._stores:
            if await store.cancel(params.task_id):
                return {}
        raise _no_such_task()


def declared(ctx: Context[Any, Any]) -> bool:
    """Say whether the caller of this request can take a task.

    A client of an earlier protocol may declare the extension too, and can make nothing of what it means.
    """
    capabilities = ctx.client_capabilities
    extensions = capabilities.extensions if capabilities is not None else None
    return ctx.protocol_version in PROTOCOLS and EXTENSION in (extensions or {})


def task_of(job: pb.Job, settings: Settings, said: str = "") -> Task:
    """Return a job as a task; the names of both are one. A job that failed is a completed task: its tool says how."""
    here = answers.status(job)
    completed = here in ("done", "error")
    age_s = (datetime.now(UTC) - datetime.fromisoformat(job.queued_at)).total_seconds()
    result = answers.answer(job, said, failed_is_error=True) if completed else None
    return Task(
        task_id=job.id,
        status="completed" if completed else "cancelled" if here == "cancelled" else "working",
        message=here,
        created_at=job.queued_at,
        updated_at=job.updated_at or job.queued_at,
        ttl_ms=settings.job_retention_days * _DAY_MS,
        poll_ms=_POLL_MS if age_s < _LATER_S else _LATER_POLL_MS,
        result=result.model_dump(by_alias=True, mode="json", exclude_none=True) if result is not None else None,
    )


def _check(ctx: ServerRequestContext[Any, Any], params: _TaskParams) -> None:
    """Raise MCPError when the client did not say that it knows tasks, or its header names another."""
    require_client_extension(ctx, EXTENSION)
    headers = getattr(ctx.request, "headers", None)  # only HTTP has them
    if headers is not None and decode_header_value(headers.get(MCP_NAME_HEADER)) != params.task_id:
        raise MCPError(HEADER_MISMATCH, "the Mcp-Name header is not the taskId of the request")


def _no_such_task() -> MCPError:
    return MCPError(INVALID_PARAMS, "no such task")
