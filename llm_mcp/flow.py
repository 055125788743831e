"""Jobs in a row, and jobs side by side: thin words over `after`.

from llm_mcp import chain, group

last = chain(fetch.prepare(url="…"), summary.prepare(), translation.prepare(to="de"))
pages = group(*(fetch.prepare(url=url) for url in urls))
report = pages.then(summary)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import uuid_utils.compat
from psycopg import Connection

from .errors import InvalidInput, JobFailed, NotFound, WaitTimeout
from .handle import JobHandle, Submits
from .job import Status, Submission
from .jobs import Jobs
from .runtime import current
from .store import needs as rows
from .watch import PATIENCE_S, wait_final


def chain(*submissions: Submission, conn: Connection[Any] | None = None) -> JobHandle:
    """Submit jobs of which each starts when the one before it is done, and return the handle of the last.

    Submissions are made by an actor's `prepare`. All are written or none, on `conn` as part of the caller's
    transaction. Each finds the result of the one before it last in `run.inputs()`. When one ends in error, so do those
    after it (`dependency_failed`), up to one that said `after_error="run"`. Raises what `Jobs.submit_many` raises.
    """
    if not submissions:
        raise InvalidInput("a chain is of one job or more", field="submissions")
    linked: list[Submission] = []
    for submission in submissions:
        before = () if not linked or linked[-1].id is None else (linked[-1].id,)
        job_id = submission.id or uuid_utils.compat.uuid7()
        linked.append(replace(submission, id=job_id, after=(*submission.after, *before)))
    jobs = Jobs(current())
    return JobHandle(jobs, jobs.submit_many(linked, conn=conn)[-1])


def group(*submissions: Submission, conn: Connection[Any] | None = None) -> Group:
    """Submit jobs that run side by side, all or none, and return them in the hand. Raises what `submit_many` raises."""
    jobs = Jobs(current())
    return Group([JobHandle(jobs, job_id) for job_id in jobs.submit_many(submissions, conn=conn)])


class Group:
    """Some jobs, in order. Any handles make one."""

    def __init__(self, handles: Sequence[JobHandle]) -> None:
        self.handles = list(handles)

    def __repr__(self) -> str:
        return f"Group({len(self.handles)} jobs)"

    def status(self) -> dict[Status, int]:
        """Return how many of the jobs are in which status; one that is not there (any more) is in none."""
        found = list(rows.statuses(current().db, [handle.id for handle in self.handles]).values())
        return {status: found.count(status) for status in Status}

    def wait(self, timeout: float | None = None) -> list[Any]:
        """Return the results (JSON values), in order, once all jobs are done.

        Raises WaitTimeout after `timeout` seconds (the jobs go on), and once all are finished JobFailed with the reason
        of the first that ended in error. NotFound for one that is not there.
        """
        runtime = current()
        job_ids = [handle.id for handle in self.handles]
        until = None if timeout is None else time.monotonic() + timeout
        known = rows.statuses(runtime.db, job_ids)
        for job_id in job_ids:
            if job_id not in known or not known[job_id].final:
                left_s = None if until is None else max(0.0, until - time.monotonic())
                try:
                    wait_final(runtime, job_id, timeout_s=left_s, patience_s=PATIENCE_S)
                except WaitTimeout:
                    raise WaitTimeout(f"not all of {len(job_ids)} jobs are finished after {timeout:g} s") from None
        found = rows.outcomes(runtime.db, job_ids)
        results: list[Any] = []
        for job_id in job_ids:
            if job_id not in found:
                raise NotFound(f"no job {job_id}")
            outcome = found[job_id]
            if outcome.status is not Status.DONE:
                raise JobFailed(outcome.error or f"job {job_id}: {outcome.reason}", reason=str(outcome.reason))
            results.append(None if outcome.result is None else orjson.loads(outcome.result))
        return results

    def then(self, actor: Submits, payload: Any = None, **options: Any) -> JobHandle:
        """Submit a job that is run once all of these are done, and return its handle; see `JobHandle.then`.

        The actor finds their results, in order, in `run.inputs()`. A thousand jobs at the most.
        """
        return actor.submit(payload, **{**options, "after": [*self.handles, *options.get("after", ())]})
