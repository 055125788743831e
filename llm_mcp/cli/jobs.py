"""`llm-mcp jobs`: look at jobs and end them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from .options import DataDir, Dsn, Json, service

app = typer.Typer(help="List, show, follow and cancel jobs.", no_args_is_help=True, rich_markup_mode=None)

JobId = Annotated[UUID, typer.Argument(metavar="ID", help="The job's id.")]


@app.command("list")
def list_jobs(
    status: Annotated[str | None, typer.Option(help="queued, running, done or error.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None,
    source: Annotated[str | None, typer.Option(help="Only from this source.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    json: Json = False,
    data_dir: DataDir = None,
    dsn: Dsn = None,
) -> None:
    """List jobs, newest first."""
    from rich.table import Table
    from rich.text import Text

    from llm_mcp.errors import InvalidInput
    from llm_mcp.job import Status

    from .terminal import STYLES, ago, clean, err, facts, out, print_json, status_text

    if status is not None and status not in set(Status):
        raise InvalidInput(f"must be one of {', '.join(Status)}", field="--status")
    found = service(data_dir=data_dir, dsn=dsn).page(
        limit=limit, status=None if status is None else Status(status), kind=kind, source=source
    )
    if json:
        print_json([facts(job, whole=False) for job in found])
        return
    if not found:
        err.print("no jobs")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "kind", "status", "attempts", "age", "error"):
        table.add_column(heading, no_wrap=heading != "error", overflow="ellipsis")
    for job in found:
        table.add_row(
            str(job.id),
            Text(clean(job.kind)),
            Text(status_text(job), style=STYLES[job.status]),
            f"{job.attempts}/{job.max_attempts}",
            ago(job.queued_at),
            Text(clean(job.error or "") if job.status is Status.ERROR else ""),
        )
    out.print(table)


@app.command()
def show(job_id: JobId, json: Json = False, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """Show one job: its facts, its attempts, its payload and result."""
    from llm_mcp.job import Status

    from .terminal import STYLES, clean, facts, out, print_json, status_text

    jobs = service(data_dir=data_dir, dsn=dsn)
    job, attempts = jobs.get(job_id), jobs.attempts(job_id)
    told = facts(job, whole=True)
    told["history"] = [
        {
            "attempt": t.attempt,
            "status": t.status,
            "reason": t.reason,
            "worker_id": t.worker_id,
            "seconds": None if t.finished_at is None else round((t.finished_at - t.started_at).total_seconds(), 3),
            "error": t.error,
        }
        for t in attempts
    ]
    if json:
        print_json(told)
        return
    out.print(f"{job.id}  {clean(job.kind)}  ", end="")
    out.print(status_text(job), style=STYLES[job.status])
    if job.status is Status.QUEUED and not job.served:
        out.print(f"no live worker serves {job.kind!r}: it waits until one comes", style="yellow")
    if job.error:
        out.print(f"error     {clean(job.error)}")
    for name in ("queued_at", "finished_at", "deadline_at", "priority", "source"):
        if told[name]:
            out.print(f"{name:<12}{clean(str(told[name]))}")
    for t in told["history"]:
        fate = f"{t['status']} ({t['reason']})" if t["reason"] else t["status"]
        took = "" if t["seconds"] is None else f" after {t['seconds']} s"
        out.print(f"attempt {t['attempt']:<4}{fate}{took} on {clean(t['worker_id'])}")
    for name in ("payload", "result"):
        if told[name] is not None:
            out.print(f"{name}:")
            print_json(told[name])


@app.command()
def tail(job_id: JobId, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """Follow a job from its beginning to its end. Exit code 1 when it ends in error."""
    from llm_mcp.job import Status

    from .live import summary, watch
    from .terminal import clean, err, status_text

    job, figures = watch(service(data_dir=data_dir, dsn=dsn), job_id)
    if job.status is not Status.DONE:
        err.print(f"{status_text(job)}: {clean(job.error or '')}", style="red")
        raise typer.Exit(1)
    err.print(summary(job, figures), style="dim")


@app.command()
def cancel(
    job_ids: Annotated[list[UUID], typer.Argument(metavar="ID...", help="The jobs' ids.")],
    data_dir: DataDir = None,
    dsn: Dsn = None,
) -> None:
    """End jobs that are not finished. Exit code 1 when one was finished or unknown."""
    from llm_mcp.errors import Conflict, NotFound

    from .terminal import err, out

    jobs, failed = service(data_dir=data_dir, dsn=dsn), False
    for job_id in job_ids:
        try:
            jobs.cancel(job_id)
            out.print(f"{job_id} cancelled")
        except (Conflict, NotFound) as error:
            err.print(str(error), style="red")
            failed = True
    raise typer.Exit(1 if failed else 0)
