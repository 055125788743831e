"""Jobs as everybody else sees them: submitted, looked at, ended and queued again, one statement each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from llm_mcp.errors import NotFound
from llm_mcp.job import Attempt, Job, Reason, Status, Submission

from .pool import Connection, Database, Row


@dataclass(frozen=True, slots=True)
class New:
    """A job to be written: its id, its submission, the payload as JSON text, and what its kind says."""

    job_id: UUID
    submission: Submission
    payload: str
    queue: str
    max_attempts: int
    result_ttl_s: float | None = None
    """How long the result is kept when the submission does not say it, s; None: with the job."""


def submit(db: Database, new: Sequence[New], *, conn: Connection | None = None) -> list[UUID]:
    """Write a batch of jobs in one statement and return their ids, in order; all or none.

    In the place of a job whose id or key named one before is that one's id. Raises KeyReused when it named a different
    request, InvalidInput for the place of a needed job that is not there.
    """
    entries = [_entry(one) for one in new]
    if len(entries) == 1 and "after" not in entries[0]:
        for added in db.run("submit_one", {"job": orjson.dumps(entries[0]).decode()}, conn=conn):
            return [added["id"]]
    batch = orjson.dumps(entries).decode()
    job_ids: list[UUID] = db.run("submit", {"batch": batch}, conn=conn)[0]["ids"]
    return job_ids


def cancel(db: Database, job_id: UUID) -> bool:
    """End a queued or running job; False when it is finished or unknown."""
    return bool(db.run("cancel", {"job_id": job_id}))


def now(db: Database) -> datetime:
    """Return the database's time."""
    moment: datetime = db.run("clock")[0]["now"]
    return moment


def retry(
    db: Database,
    *,
    n: int,
    job_ids: Sequence[UUID] | None = None,
    reason: Reason | None = None,
    kind: str | None = None,
    until: datetime | None = None,
) -> list[UUID]:
    """Queue up to `n` jobs that ended in error again, with fresh tries, and return their ids.

    None: whichever. `until`: only those that ended by then. Saying it twice is fine: what is queued already stays so.
    """
    params = {
        "job_ids": None if job_ids is None else list(job_ids),
        "reason": reason and reason.value,
        "kind": kind,
        "until": until,
        "n": n,
    }
    # Planned for its values: ids are looked up one by one, all else by the index of errors.
    return [row["id"] for row in db.run("retry", params, prepare=False)]


def requeue(db: Database, job_ids: Sequence[UUID]) -> list[UUID]:
    """Take running jobs from their workers, queue them again, and return the ids of those that were running.

    The tries do not count, and what the workers write from now on is refused.
    """
    return [row["id"] for row in db.run("requeue", {"job_ids": list(job_ids)})]


def status(db: Database, job_id: UUID, *, principal: str | None = None) -> Status:
    """Return where a job stands.

    Raises NotFound; also for one that is not this principal's (None: whoever's).
    """
    rows = db.run("status", {"job_id": job_id, "principal": principal})
    if not rows:
        raise NotFound(f"no job {job_id}")
    return Status(rows[0]["status"])


def get(db: Database, job_id: UUID, *, principal: str | None = None) -> Job:
    """Return one job whole.

    Raises NotFound; also for one that is not this principal's (None: whoever's).
    """
    rows = db.run("job", {"job_id": job_id, "principal": principal})
    if not rows:
        raise NotFound(f"no job {job_id}")
    return _job(rows[0])


def attempts(db: Database, job_id: UUID) -> list[Attempt]:
    """Return the tries of a job, first to last."""
    return [Attempt(**row) for row in db.run("attempts", {"job_id": job_id})]


def page(
    db: Database,
    *,
    n: int,
    before: UUID | None = None,
    status: Status | None = None,
    kind: str | None = None,
    source: str | None = None,
    principal: str | None = None,
) -> list[Job]:
    """Return up to `n` jobs, newest first, older than `before`, without payload and result."""
    params = {
        "n": n,
        "before": before,
        "status": status and status.value,
        "kind": kind,
        "source": source,
        "principal": principal,
    }
    # Planned for its values: only then is an index of one status, or of principals, of use.
    return [_job(row) for row in db.run("jobs", params, prepare=False)]


def unserved(db: Database) -> dict[str, int]:
    """Return the kinds that wait for a worker nobody is, with how many jobs wait."""
    return {row["kind"]: row["waiting"] for row in db.run("unserved")}


def _entry(new: New) -> dict[str, Any]:
    """Return a job's place in a batch; what is not said of it is left out, for the server reads all that is there."""
    asked = new.submission
    entry = {
        "id": new.job_id,
        "kind": asked.kind,
        "payload": new.payload,
        "priority": asked.priority,
        "source": asked.source,
        "max_attempts": new.max_attempts,
        "delay_s": asked.delay_s,
        "queue": new.queue,
    }
    if asked.after:
        entry |= {"after": asked.after, "after_error": asked.after_error}
    for name, value in (
        ("deadline_at", asked.deadline_at),
        ("key", asked.unique_key),
        ("key_s", asked.unique_s),
        ("result_ttl_s", new.result_ttl_s if asked.result_ttl_s is None else asked.result_ttl_s),
        ("principal", asked.principal),
    ):
        if value is not None:
            entry[name] = value
    return entry


def _job(row: Row) -> Job:
    row["status"] = Status(row["status"])
    row["reason"] = Reason(row["reason"]) if row["reason"] else None
    return Job(**row)
