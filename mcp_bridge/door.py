"""What the tools of a bridge share: the core, the settings, the models there are, and who waits for which job."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

import anyio
import orjson
from google.protobuf.json_format import ParseDict
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

from llm_mcp.config import Settings
from llm_mcp.errors import LlmMcpError, Unavailable
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
_CLOUDS = ("openai", "openrouter")
_PAID = "allow_cloud=true, which costs money"


class Door:
    """One a server. Parameters: `core`, which gives the core while the bridge runs; `settings`."""

    def __init__(self, core: Callable[[], Core], settings: Settings) -> None:
        self.core = core
        self.settings = settings
        self.attendance = Attendance(core, grace_s=settings.mcp_abandon_grace_s)
        self._models: list[pb.Model] = []
        self._looked_at: float | None = None

    @property
    def reaches_out(self) -> bool:
        """Whether a call may reach the cloud: where a key is set up. Of a core elsewhere this is not known."""
        return self.settings.openai_api_key is not None or self.settings.openrouter_api_key is not None

    async def models(self, *, anew: bool = False) -> list[pb.Model]:
        """Return the models that can be named, as they were a moment ago, or `anew` as they are."""
        now = anyio.current_time()
        if anew or self._looked_at is None or now - self._looked_at > _FRESH_S:
            self._models = await self.core().models()
            self._looked_at = now
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
            if any(each.device_id and _answers(each, model, verb) for each in models):
                return
        if model in ("", "auto"):
            sort = "an embedding model" if verb == "embed" else "a model"
            raise ToolError(f"no machine here with {sort} answers now: try again later, or {_PAID}")
        cloud = next((each.provider for each in models if not each.device_id and each.name == model), "")
        if cloud or "/" in model:
            raise ToolError(f"model: this one runs in the cloud, at {cloud or 'openrouter'}: take another, or {_PAID}")
        raise ToolError(refusals.no_such_model(model, (each.name for each in models if each.device_id)))

    async def submit(self, kind: str, payload: Any, *, principal: str, **options: Any) -> str:
        """Submit a job and return its id, as `Core.submit` does.

        The job of a caller who is cancelled meanwhile is written, and known, all the same.
        """
        with anyio.move_on_after(_WRITE_S, shield=True):
            return await self.core().submit(kind, payload, principal=principal, **options)
        raise Unavailable("the core did not answer in time", retry_after_s=5.0)

    async def keep_here(self, job: pb.Job, *, principal: str) -> None:
        """Cancel a job that was routed to the cloud though it must not be: the machine that had its model just went.

        Raises ToolError then.
        """
        if job.kind.partition(".")[0] in _CLOUDS:
            with suppress(LlmMcpError):
                await self.core().cancel(job.id, principal=principal)
            raise ToolError(f"the machine that has this model just went away: try again, or {_PAID}")

    async def follow(
        self, job_id: str, ctx: Context[Any, Any], *, principal: str, wait_s: float, allow_cloud: bool = True
    ) -> None:
        """Wait for a job to finish, at most `wait_s` seconds and what is allowed, and tell progress meanwhile.

        Raises ToolError as `keep_here` does, and when the core goes away for long; NotFound.
        """
        progress = Progress(ctx.report_progress, job_id)
        raised: Exception | None = None
        with anyio.move_on_after(min(wait_s, self.settings.mcp_max_wait_s)):
            async with anyio.create_task_group() as group:
                group.start_soon(progress.tell)
                try:
                    async with aclosing(self.core().events(job_id, principal=principal)) as events:
                        async for event in events:
                            progress.note(event)
                            if event.type == "status" and not allow_cloud:
                                await self.keep_here(_job(event), principal=principal)
                except Stopping:
                    pass  # the job goes on, and its caller is told how to ask for it
                except (LlmMcpError, ToolError) as error:
                    raised = error
                group.cancel_scope.cancel()
        if isinstance(raised, Unavailable):
            raise ToolError(f"{refusals.words(raised)}; the job goes on: llm_job_status(job_id={job_id!r})")
        if raised is not None:
            raise raised

    async def job(self, job_id: str, *, principal: str) -> tuple[pb.Job, str]:
        """Return a job and what it has said so far. Raises NotFound, Unavailable."""
        return await self.core().job(job_id, principal=principal, text=True)


def unwanted(ctx: Context[Any, Any]) -> bool:
    """Say whether the caller of this request has said that it does not want the answer any more.

    The SDK marks the request, in both eras, before it cancels it, and shows the mark to nobody: without it every caller
    would look as if it had vanished.
    """
    channel = getattr(ctx.request_context.session, "_request_outbound", None)
    mark = getattr(channel, "cancel_requested", None)
    return mark is not None and bool(mark.is_set())


def _answers(offer: pb.Model, model: str, verb: str) -> bool:
    if model in ("", "auto"):
        return not offer.away and offer.embeds == (verb == "embed")
    return offer.name in (model, f"{model}:latest") or f"{offer.name}:latest" == model


def _job(event: pb.JobEvent) -> pb.Job:
    return ParseDict(orjson.loads(event.data_json), pb.Job(), ignore_unknown_fields=True)
