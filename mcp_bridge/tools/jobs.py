"""The tools about jobs that were asked for: how one fares, ending one, and which there are."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from llm_mcp.errors import Conflict
from llm_mcp.rpc import llm_pb2 as pb

from .. import answers, untrusted
from ..answers import JobResult
from ..door import Door
from ..principal import READ, SUBMIT, current
from ..schema import BridgeTool, tool
from . import words

Offset = Annotated[int, Field(ge=0, le=2**31 - 1, description="First character; next_offset of the last answer")]
MaxChars = Annotated[int, Field(ge=1, le=200_000)]
Wanted = Annotated[Literal["", "queued", "running", "done", "error"], Field(description="Only these")]
Limit = Annotated[int, Field(ge=1, le=100)]
Cursor = Annotated[str, Field(max_length=200, description="next_cursor of the last answer")]


class JobLine(BaseModel):
    """A job in a list."""

    job_id: str
    kind: str
    status: answers.Status
    queued_at: str
    finished_at: str


class JobLines(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobLine]
    next_cursor: Annotated[str, Field(description="Empty: these are all")]


def tools(door: Door) -> list[BridgeTool]:
    """Return the tools."""

    async def llm_job_status(
        ctx: Context[Any, Any],
        job_id: words.JobId,
        wait_s: words.WaitS = 0,
        offset: Offset = 0,
        max_chars: MaxChars = answers.MAX_CHARS,
    ) -> JobResult:
        principal = current().name
        job, said = await door.job(job_id, principal=principal, wait_s=wait_s)
        door.attendance.keep(job.id)
        if wait_s and not answers.final(job):
            job, said = await door.follow(job.id, ctx, principal=principal, wait_s=wait_s)
        return answers.answer(job, said, offset=offset, max_chars=max_chars)

    async def llm_job_cancel(job_id: words.JobId) -> JobResult:
        principal = current().name
        with suppress(Conflict):  # it is finished: what it came to is told
            await door.core().cancel(job_id, principal=principal)
        job, said = await door.job(job_id, principal=principal)
        return answers.answer(job, said)

    async def llm_jobs(
        status: Wanted = "", limit: Limit = 20, cursor: Cursor = ""
    ) -> Annotated[CallToolResult, JobLines]:
        found, next_cursor = await door.core().jobs(principal=current().name, status=status, limit=limit, cursor=cursor)
        told = JobLines(jobs=[job_line(job) for job in found], next_cursor=next_cursor)
        lines = [
            f"{one.job_id} {one.status} {one.kind} {one.queued_at} {one.finished_at}".rstrip() for one in told.jobs
        ]
        rest = f"next_cursor={next_cursor}" if next_cursor else f"{len(lines)} jobs, no more"
        text = "\n".join([*lines, rest])
        return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=told.model_dump())

    return [
        tool(
            llm_job_status,
            title="Job status and answer",
            description="How a job fares, and its answer. Wait with one call of wait_s=45 rather than many.",
            scope=READ,
            reads=True,
            repeats=True,
        ),
        tool(
            llm_job_cancel,
            title="Cancel a job",
            description="End a job that is not finished.",
            scope=SUBMIT,
            destroys=True,
            repeats=True,
        ),
        tool(
            llm_jobs,
            title="List jobs",
            description="Jobs, newest first.",
            scope=READ,
            reads=True,
            repeats=True,
        ),
    ]


def job_line(job: pb.Job) -> JobLine:
    """Return a job as it is told in a list."""
    return JobLine(
        job_id=job.id,
        kind=untrusted.line(job.kind),
        status=answers.status(job),
        queued_at=job.queued_at,
        finished_at=job.finished_at,
    )
