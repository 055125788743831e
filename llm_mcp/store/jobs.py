"""The verbs on a job, one statement each. Every write after the claim is fenced by the lease's token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from llm_mcp.config import LONGEST_LEASE_S
from llm_mcp.errors import LeaseLost, NotFound
from llm_mcp.job import Attempt, Job, Lease, Reason, Status, Submission

from .pool import Connection, Database, Row

MAX_CRASHES = 3
SWEEP = 100
"""Jobs one sweep moves at most."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that a sweep moved: its id, and where to."""

    job_id: UUID
    status: Status


def submit(
    db: Database, job_id: UUID, submission: Submission, *, payload: str, queue: str, conn: Connection | None = None
) -> UUID:
    """Write one job and return its id: `job_id`, or that of the job its key named before.

    `payload` is the submission's payload as JSON text. Raises KeyReused when the key named a different request.
    """
    params = {
        "id": job_id,
        "kind": submission.kind,
        "payload": payload,
        "priority": submission.priority,
        "source": submission.source,
        "max_attempts": submission.max_attempts,
        "deadline_at": submission.deadline_at,
        "delay_s": submission.delay_s,
        "queue": queue,
        "idempotency_key": submission.idempotency_key,
    }
    found: UUID = db.run("submit", params, conn=conn)[0]["id"]
    return found


def claim(
    db: Database, worker_id: str, claim_id: UUID, *, kinds: Sequence[str], n: int, lease_s: float, ageing_s: float
) -> list[Lease]:
    """Lease up to `n` waiting jobs of these kinds for `lease_s` seconds, in the order they are to be run."""
    params = {
        "worker_id": worker_id,
        "claim_id": claim_id,
        "kinds": list(kinds),
        "n": n,
        "lease_s": lease_s,
        "ageing_s": ageing_s,
    }
    # Asked once only: repeated blindly, a claim whose reply was lost would lease a second batch. See `claimed`.
    return [Lease(**row) for row in db.run("claim", params, repeatable=False)]


def claimed(db: Database, worker_id: str, claim_id: UUID) -> list[Lease]:
    """Return the leases an earlier claim took whose reply may have been lost."""
    return [Lease(**row) for row in db.run("claimed", {"worker_id": worker_id, "claim_id": claim_id})]


def heartbeat(db: Database, leases: Sequence[tuple[UUID, int]], *, lease_s: float) -> set[int]:
    """Renew these (job id, token) leases and return the tokens that still hold."""
    params = {"job_ids": [job for job, _ in leases], "tokens": [token for _, token in leases], "lease_s": lease_s}
    return {row["token"] for row in db.run("heartbeat", params)}


def complete(db: Database, job_id: UUID, token: int, *, result: str, metrics: str = "{}") -> None:
    """Hand in the result (JSON text) of a leased job; saying it twice is fine.

    Raises LeaseLost when the lease is not this token's any more, NotFound for no such job.
    """
    params = {"job_id": job_id, "token": token, "result": result, "metrics": metrics}
    if not db.run("complete", params):
        _already(db, job_id, token, ("done", None))


def fail(
    db: Database, job_id: UUID, token: int, *, error: str, retryable: bool, delay_s: float, metrics: str = "{}"
) -> Status:
    """Report a failed attempt and return where the job went: back to the queue for `delay_s` seconds, or its end.

    Saying it twice is fine; then the job's status now is returned. Raises LeaseLost when the lease is not this
    token's any more, NotFound for no such job.
    """
    params = {
        "job_id": job_id,
        "token": token,
        "error": error,
        "retryable": retryable,
        "delay_s": delay_s,
        "metrics": metrics,
    }
    rows = db.run("fail", params)
    return Status(rows[0]["status"]) if rows else _already(db, job_id, token, ("error", "failed"))


def release(db: Database, leases: Sequence[tuple[UUID, int]]) -> set[int]:
    """Give leases back unharmed and return the tokens that were still ours."""
    params = {"job_ids": [job for job, _ in leases], "tokens": [token for _, token in leases]}
    return {row["token"] for row in db.run("release", params)}


def cancel(db: Database, job_id: UUID) -> bool:
    """End a queued or running job; False when it is finished or unknown."""
    return bool(db.run("cancel", {"job_id": job_id}))


def reap(db: Database, gone: Sequence[str] = ()) -> list[Ended]:
    """Take back one bounded batch of leases that ended, or that are held by the workers `gone`."""
    params = {"n": SWEEP, "max_crashes": MAX_CRASHES, "longest_lease_s": LONGEST_LEASE_S, "gone": list(gone)}
    return _ended(db.run("reap", params))


def expire(db: Database) -> list[Ended]:
    """End one bounded batch of jobs past their deadline."""
    return _ended(db.run("expire", {"n": SWEEP}))


def prune(db: Database, *, days: int, n: int = 1000) -> int:
    """Delete up to `n` jobs that finished over `days` days ago and return how many went."""
    return len(db.run("prune", {"days": days, "n": n}))


def status(db: Database, job_id: UUID) -> Status:
    """Return where a job stands.

    Raises NotFound.
    """
    rows = db.run("status", {"job_id": job_id})
    if not rows:
        raise NotFound(f"no job {job_id}")
    return Status(rows[0]["status"])


def get(db: Database, job_id: UUID) -> Job:
    """Return one job whole.

    Raises NotFound.
    """
    rows = db.run("job", {"job_id": job_id})
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
) -> list[Job]:
    """Return up to `n` jobs, newest first, older than `before`, without payload and result."""
    params = {"n": n, "before": before, "status": status and status.value, "kind": kind, "source": source}
    # Planned for its values: only then is an index of one status of use.
    return [_job(row) for row in db.run("jobs", params, prepare=False)]


def unserved(db: Database) -> dict[str, int]:
    """Return the kinds that wait for a worker nobody is, with how many jobs wait."""
    return {row["kind"]: row["waiting"] for row in db.run("unserved")}


def _job(row: Row) -> Job:
    row["status"] = Status(row["status"])
    row["reason"] = Reason(row["reason"]) if row["reason"] else None
    return Job(**row)


def _ended(rows: list[Row]) -> list[Ended]:
    return [Ended(row["id"], Status(row["status"])) for row in rows]


def _already(db: Database, job_id: UUID, token: int, ending: tuple[str, str | None]) -> Status:
    """Return the status of a job whose attempt this token's own earlier write ended in just this way.

    `ending` is the attempt's (status, reason). Raises LeaseLost when anything else ended it, NotFound.
    """
    rows = db.run("verdict", {"job_id": job_id, "token": token})
    if not rows:
        raise NotFound(f"no job {job_id}")
    row = rows[0]
    if (row["attempt_status"], row["attempt_reason"]) == ending:
        return Status(row["status"])
    raise LeaseLost(f"job {job_id} is {row['status']}; this lease ended")
