"""`llm-mcp jobs`: look at jobs, end them, try them anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from .options import DataDir, Dsn, Json, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm_mcp.jobs import Jobs

app = typer.Typer(
    help="List, show, follow, cancel, retry, requeue and prune jobs.", no_args_is_help=True, rich_markup_mode=None
)

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
    if job.status is Status.DONE and job.result is None:
        out.print("result expired", style="yellow")


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


@app.command()
def retry(
    job_ids: Annotated[list[UUID] | None, typer.Argument(metavar="[ID...]", help="The jobs' ids.")] = None,
    status: Annotated[str | None, typer.Option(help="error: every job that ended so.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only errors of this reason, such as crashed.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only errors of this kind.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="How many at the most, the oldest first.")] = None,
    data_dir: DataDir = None,
    dsn: Dsn = None,
) -> None:
    """Queue jobs that ended in error again, with fresh tries: those of the ids, or all that the options name.

    What old attempts streamed stays; a deadline that passed is lifted. Exit code 1 when a job named by its id had not
    ended in error.
    """
    from llm_mcp.errors import InvalidInput
    from llm_mcp.job import Reason, Status

    from .terminal import out

    if job_ids and (status or reason or kind or limit):
        raise InvalidInput("give ids, or options that name jobs, not both", field="ID")
    if status not in (None, Status.ERROR):
        raise InvalidInput("only jobs that ended in error are tried again", field="--status")
    if reason is not None and reason not in set(Reason):
        raise InvalidInput(f"must be one of {', '.join(Reason)}", field="--reason")
    jobs = service(data_dir=data_dir, dsn=dsn)
    if job_ids:
        _each(jobs, job_ids, set(jobs.retry(job_ids)), "queued again", "did not end in error")
        return
    if not (status or reason or kind):
        raise InvalidInput("give ids, --status error, --reason or --kind", field="ID")
    chosen = None if reason is None else Reason(reason)
    out.print(_counted(jobs.retry_errors(reason=chosen, kind=kind, limit=limit), "queued again"))


@app.command()
def requeue(
    job_ids: Annotated[list[UUID], typer.Argument(metavar="ID...", help="The jobs' ids.")],
    data_dir: DataDir = None,
    dsn: Dsn = None,
) -> None:
    """Take running jobs from their workers and queue them again; their calls are cut, and the tries do not count.

    Exit code 1 when one was not running.
    """
    jobs = service(data_dir=data_dir, dsn=dsn)
    _each(jobs, job_ids, set(jobs.requeue(job_ids)), "queued again", "is not running")


@app.command()
def prune(
    days: Annotated[int, typer.Option(min=0, max=36500, help="Only jobs that finished over so many days ago.")],
    status: Annotated[str | None, typer.Option(help="done or error [default: both].")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many, and delete none.")] = False,
    data_dir: DataDir = None,
    dsn: Dsn = None,
) -> None:
    """Delete finished jobs and their attempts now; workers do so by themselves after JOB_CLEANUP_RETENTION_DAYS."""
    from llm_mcp.errors import InvalidInput
    from llm_mcp.job import Status

    from .terminal import out

    if status not in (None, Status.DONE, Status.ERROR):
        raise InvalidInput("must be done or error", field="--status")
    chosen = None if status is None else Status(status)
    jobs = service(data_dir=data_dir, dsn=dsn)
    if dry_run:
        out.print(f"{_jobs(jobs.prunable(days=days, status=chosen))} would be deleted")
    else:
        out.print(_counted(jobs.prune(days=days, status=chosen), "deleted"))


def _each(jobs: Jobs, job_ids: list[UUID], moved: set[UUID], fate: str, else_: str) -> None:
    """Say of each job what became of it; end with exit code 1 when one stayed as it was."""
    from llm_mcp.errors import NotFound

    from .terminal import err, out, status_text

    for job_id in dict.fromkeys(job_ids):
        if job_id in moved:
            out.print(f"{job_id} {fate}")
            continue
        try:
            err.print(f"job {job_id} {else_}: {status_text(jobs.get(job_id))}", style="red")
        except NotFound as error:
            err.print(str(error), style="red")
    raise typer.Exit(0 if moved.issuperset(job_ids) else 1)


def _counted(batches: Iterator[int], fate: str) -> str:
    """Add batches up, say after each but the last one how far we are, and return what became of them all."""
    from .terminal import err

    total = 0
    for n in batches:
        if total:
            err.print(f"{total} {fate}", style="dim")
        total += n
    return f"{_jobs(total)} {fate}"


def _jobs(n: int) -> str:
    return "1 job" if n == 1 else f"{n} jobs"
