"""What the tools of a bridge share: the core, the settings, the models there are, and who waits for which job."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import anyio
import orjson
from google.protobuf.json_format import ParseDict
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

from llm_mcp.config import Settings
from llm_mcp.errors import LlmMcpError, Unavailable
from llm_mcp.routing import means
from llm_mcp.rpc import llm_pb2 as pb

from . import refusals
from .attendance import Attendance
from .core import Core, Stopping
from .principal import CLOUD
from .progress import Progress

# A list of models this old is good enough for finding a name in it, s.
_FRESH_S = 5.0
# How long writing a job may take once its caller is gone, s: a job that was written must be known, to be cancelled.
_WRITE_S = 10.0
# A core that is away is waited for so long, asked again so often, s.
_PATIENCE_S, _AGAIN_S = 30.0, 0.5
# What is done within this time is asked for once; for all else it is not long until progress is told, s.
_BRIEF_S = 0.25


class Door:
    """One a server. Parameters: `core`, which gives the core while the bridge runs; `settings`."""

    def __init__(self, core: Callable[[], Core], settings: Settings) -> None:
        self.core = core
        self.settings = settings
        self.attendance = Attendance(core, grace_s=settings.mcp_abandon_grace_s)
        self._models: list[pb.Model] = []
        self._looked_at = -math.inf
        self._looking = anyio.Lock()

    @property
    def reaches_out(self) -> bool:
        """Whether a call may reach the cloud: where a key is set up. Of a core elsewhere this is not known."""
        return self.settings.openai_api_key is not None or self.settings.openrouter_api_key is not None

    async def models(self, *, anew: bool = False) -> list[pb.Model]:
        """Return the models that can be named, as they were a moment ago, or `anew` as they are."""
        asked_at = anyio.current_time()
        async with self._looking:  # who waited for another's look has what that one saw
            if self._looked_at < (asked_at if anew else asked_at - _FRESH_S):
                began_at = anyio.current_time()
                self._models = await self.core().models()
                self._looked_at = began_at
            return self._models

    async def admit(self, model: str, verb: str, *, allow_cloud: bool) -> None:
        """Let a call for a model pass.

        Parameters: `model`, a name, or "auto"; `verb`, `embed` or another. Raises ToolError when it would go to the
        cloud and must not, MCPError when the scope for that is missing.
        """
        if allow_cloud:
            refusals.require(CLOUD)
            return
        models: list[pb.Model] = []
        for anew in (False, True):
            models = await self.models(anew=anew)
            if any(answers_here(each, model, verb) for each in models):
                return
        if model in ("", "auto"):
            sort = "an embedding model" if verb == "embed" else "a model"
            raise ToolError(f"no machine here with {sort} answers now: try again later, or {refusals.PAID}")
        cloud = next((each.provider for each in models if not each.device_id and each.name == model), "")
        if cloud or "/" in model:
            raise ToolError(
                f"model: this one runs in the cloud, at {cloud or 'openrouter'}: take another, or {refusals.PAID}"
            )
        raise ToolError(refusals.no_such_model(model, (each.name for each in models if each.device_id)))

    async def submit(
        self, kind: str, payload: Any, *, principal: str, wait_s: float | None = None, **options: Any
    ) -> tuple[pb.Job, str]:
        """Submit a job as `Core.submit` does, which waits a moment of `wait_s` seconds.

        The job of a caller who is cancelled meanwhile is written, and known, all the same.
        """
        wait_s = None if wait_s is None else min(wait_s, _BRIEF_S)
        with anyio.move_on_after(_WRITE_S, shield=True):
            return await self.core().submit(kind, payload, principal=principal, wait_s=wait_s, **options)
        raise Unavailable("the core did not answer in time", retry_after_s=5.0)

    async def ask(
        self,
        kind: str,
        payload: Any,
        ctx: Context[Any, Any],
        *,
        principal: str,
        question: str,
        wait_s: float,
        **options: Any,
    ) -> tuple[pb.Job, str]:
        """Submit a job, wait for it as `follow` does, and return it and what it has said so far.

        A job whose caller vanished after the same `question` is taken up instead. Who is cancelled while it waits
        leaves the job: see `Attendance.waiting`.
        """
        job_id = self.attendance.take_up(question)
        if not job_id:
            job_id = (await self.submit(kind, payload, principal=principal, **options))[0].id
        async with self.attendance.waiting(
            job_id, principal=principal, question=question, unwanted=lambda: _unwanted(ctx)
        ):
            return await self.follow(job_id, ctx, principal=principal, wait_s=wait_s)

    async def follow(self, job_id: str, ctx: Context[Any, Any], *, principal: str, wait_s: float) -> tuple[pb.Job, str]:
        """Wait for a job to finish, at most `wait_s` seconds and what is allowed, and tell progress meanwhile.

        Returns the job and what it has said so far. Raises ToolError when the core goes away for long, NotFound.
        """
        try:
            if wait_s > 0 and (done := await self._watched(job_id, ctx, principal=principal, wait_s=wait_s)):
                return done, ""
            return await self.job(job_id, principal=principal)
        except Unavailable as error:
            raise _lost(error, job_id) from None

    async def _watched(self, job_id: str, ctx: Context[Any, Any], *, principal: str, wait_s: float) -> pb.Job | None:
        """Tell progress until a job is finished or the time is over; return it if it is done."""
        progress = Progress(ctx.report_progress, job_id)
        raised: LlmMcpError | None = None
        done: pb.Job | None = None

        async def listen() -> None:
            nonlocal done
            async with aclosing(self.core().events(job_id, principal=principal)) as events:
                async for event in events:
                    progress.note(event)
                    if event.type == "status":
                        await ctx.notify_resource_updated(f"llm://jobs/{job_id}")
                        done = _job(event) if event.message == "done" else None

        with anyio.move_on_after(min(wait_s, self.settings.mcp_max_wait_s)):
            async with anyio.create_task_group() as group:
                group.start_soon(progress.tell)
                try:
                    await _patiently(listen)
                except Stopping:
                    pass  # the job goes on, and its caller is told how to ask for it
                except LlmMcpError as error:
                    raised = error  # raised in the group it would come out as a group of errors
                group.cancel_scope.cancel()
        if raised is not None:
            raise raised
        return done

    async def job(self, job_id: str, *, principal: str, wait_s: float = 0.0) -> tuple[pb.Job, str]:
        """Return a job and what it has said so far; one that is done within a moment of `wait_s` seconds is done.

        Raises NotFound, Unavailable.
        """
        return await self.core().job(job_id, principal=principal, wait_s=min(wait_s, _BRIEF_S), text=True)


async def _patiently(listen: Callable[[], Awaitable[None]]) -> None:
    """Listen, and again when the core is away at first: a job that was written is there when it comes back."""
    began_at = anyio.current_time()
    while True:
        try:
            await listen()
            return
        except Unavailable as error:
            if isinstance(error, Stopping) or anyio.current_time() - began_at >= _PATIENCE_S:
                raise
        await anyio.sleep(_AGAIN_S)


def _lost(error: Unavailable, job_id: str) -> ToolError:
    return ToolError(f"{refusals.words(error)}; the job goes on: llm_job_status(job_id={job_id!r})")


def _unwanted(ctx: Context[Any, Any]) -> bool:
    """Say whether the caller of this request has said that it does not want the answer any more.

    The SDK marks the request, in both eras, before it cancels it, and shows the mark to nobody: without it every caller
    would look as if it had vanished.
    """
    channel = getattr(ctx.request_context.session, "_request_outbound", None)
    mark = getattr(channel, "cancel_requested", None)
    return mark is not None and bool(mark.is_set())


def answers_here(offer: pb.Model, model: str, verb: str) -> bool:
    """Say whether a machine of ours offers this model, by name, or to a call that leaves the choice to us."""
    if not offer.device_id:
        return False
    if model in ("", "auto"):
        return not offer.away and offer.embeds == (verb == "embed")
    return means(model, offer.name)


def _job(event: pb.JobEvent) -> pb.Job:
    return ParseDict(orjson.loads(event.data_json), pb.Job(), ignore_unknown_fields=True)
