"""The work: who does it, what nobody does, what was given up."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store import health
from llm_mcp.store.pool import Database

from .finding import Finding, each, ok, span, warn

_MANY = 1000


def examine(runtime: Runtime) -> Iterator[Finding]:
    """Yield how the work goes."""
    db = runtime.db
    yield from each(
        {
            "workers": partial(workers, Jobs(runtime)),
            "waiting": partial(waiting, db, older_s=runtime.settings.ageing_s),
            "crashed": partial(crashed, db),
            "event days": partial(event_days, db),
        }
    )


def workers(jobs: Jobs) -> Iterator[Finding]:
    """Yield who is at work, and the kinds nobody serves."""
    alive = jobs.workers()
    if alive:
        threads = sum(worker.threads for worker in alive)
        count = f"{len(alive)} worker{'' if len(alive) == 1 else 's'}"
        yield ok("workers", f"{count}, {threads} jobs at once")
    else:
        yield warn("workers", "no worker is alive: jobs wait", "run: llm-mcp worker")
        return
    for kind, n in jobs.unserved().items():
        yield warn(
            "kinds",
            f"{n} jobs of kind {kind!r} wait, and no live worker serves it",
            "start a worker that does (LLM_MCP_MODULES names modules with kinds of yours), or cancel them",
        )


def waiting(db: Database, *, older_s: float) -> Iterator[Finding]:
    """Yield whether a job that could be run has waited longer than the ageing bound, `older_s` seconds."""
    oldest = health.longest_waiting(db, older_s=older_s)
    if oldest is None:
        yield ok("waiting", f"no job has waited for a free thread for over {span(older_s)}")
    else:
        yield warn(
            "waiting",
            f"job {oldest.id} ({oldest.kind}) has waited {span(oldest.waited_s)} for a free thread; after"
            f" {span(older_s)} (LLM_MCP_AGEING_S) priorities no longer count",
            "start more workers (or threads, LLM_MCP_WORKER_THREADS), or raise the limit of its kind",
        )


def crashed(db: Database) -> Iterator[Finding]:
    """Yield whether jobs were given up because three workers in a row were lost with them."""
    n, newest = health.crashed(db)
    if n:
        yield warn(
            "crashed",
            f"{n}{' or more' if n == _MANY else ''} jobs were given up after three lost workers each,"
            f" the newest {newest}",
            f"see what it asks for: llm-mcp jobs show {newest}; then submit it again, or leave it",
        )
    else:
        yield ok("crashed", "no job was given up for killing its workers")


def event_days(db: Database) -> Iterator[Finding]:
    """Yield whether the coming days' partitions of the streams are made."""
    ahead = health.event_days(db)
    if ahead is not None and ahead >= 1:
        yield ok("event days", f"partitions of the streams are made {ahead} days ahead")
    else:
        yield warn(
            "event days",
            "tomorrow's partition of the streams is not made: their rows cannot be dropped, only deleted",
            "the scheduler makes it: keep a worker running, and end long readers of job_events",
        )
