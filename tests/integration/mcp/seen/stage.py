"""A server in this process before a real core, its clients, and the worker that a test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
import orjson
from mcp import Client
from mcp.client.extension import ClientExtension
from mcp.server import MCPServer
from mcp_types import CallToolResult

from llm_mcp.config import Settings
from llm_mcp.mcp_bridge.core import Core
from llm_mcp.mcp_bridge.principal import LOCAL, Principal, acting
from llm_mcp.mcp_bridge.server import create_server
from llm_mcp.rpc import llm_pb2 as pb
from tests.integration.web.played import Attempt, Player


@dataclass
class Stage:
    """A server and its core, in this loop; `era` is how clients connect."""

    server: MCPServer[Any]
    core: Core
    player: Player
    era: str
    _calls: list[asyncio.Task[Any]] = field(default_factory=list)

    @asynccontextmanager
    async def client(self, *extensions: ClientExtension, principal: Principal = LOCAL) -> AsyncIterator[Client]:
        """Give a client that acts for a principal."""
        with acting(principal):
            async with Client(self.server, mode=self.era, extensions=list(extensions) or None) as client:
                yield client

    def begin(self, call: Any) -> asyncio.Task[Any]:
        """Have something run beside the test."""
        task = asyncio.create_task(call)
        self._calls.append(task)
        return task

    async def claimed(self, kind: str, prompt: str = "") -> Attempt:
        """Begin the next job of a kind, once there is one; it must be the one that asked `prompt`."""
        attempt = await anyio.to_thread.run_sync(self.player.claim_soon, kind)
        if prompt:
            assert orjson.loads(attempt.lease.payload)["prompt"] == prompt
        return attempt

    async def job(self, job_id: str) -> pb.Job:
        """Return a job as the core has it."""
        job: pb.Job = (await self.core.job(job_id, principal=LOCAL.name))[0]
        return job

    async def ended(self, job_id: str, *, timeout_s: float = 10.0) -> pb.Job:
        """Return a job once it is finished."""
        job: pb.Job = (await self.core.job(job_id, principal=LOCAL.name, wait_s=timeout_s))[0]
        assert job.status in ("done", "error"), job.status
        return job


@asynccontextmanager
async def staged(settings: Settings, player: Player, era: str, **options: Any) -> AsyncIterator[Stage]:
    """Give a stage over the core at `settings.grpc_addr`; `options` are `create_server`'s."""
    core = Core(settings)
    async with core:
        stage = Stage(create_server(lambda: core, settings, **options), core, player, era)
        try:
            yield stage
        finally:
            for call in stage._calls:
                call.cancel()
            await asyncio.gather(*stage._calls, return_exceptions=True)


Make = Callable[..., Any]


def said(result: CallToolResult) -> str:
    """Return the first text of a result."""
    return texts(result)[0]


def texts(result: CallToolResult) -> Sequence[str]:
    """Return the texts of a result."""
    return [block.text for block in result.content if block.type == "text"]


def told(result: CallToolResult) -> dict[str, Any]:
    """Return the structure of a result."""
    assert isinstance(result.structured_content, dict), result.content
    return result.structured_content
