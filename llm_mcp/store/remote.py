"""Leases of workers that come by a door: one claimed of whatever kind, and how a job stands to a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from llm_mcp.errors import NotFound
from llm_mcp.job import Lease, Status

from .pool import Database


@dataclass(frozen=True, slots=True)
class Found:
    """What a look for one job brought.

    `passed`: jobs were looked at and left alone, so that others passed by them. `wait_s`: seconds until a job that
    had to be left becomes due, None when nothing is known of one.
    """

    lease: Lease | None
    passed: bool
    wait_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a job stands to a worker.

    `token`, `worker_id` and `lease_left_s` (s) are those of the lease there is now; `attempt` is (status, reason) of
    the worker's attempt that was asked for, None when there is none that ended.
    """

    status: Status
    kind: str
    worker_id: str | None
    token: int | None
    tries: int
    lease_left_s: float
    attempt: tuple[str, str | None] | None


@dataclass(frozen=True, slots=True)
class StreamSize:
    """How much of a stream there is: the number of its last event, and the bytes of all data."""

    last: int
    bytes: int


def claim_any(db: Database, worker_id: str, claim_id: UUID, *, lease_s: float, ageing_s: float) -> Found:
    """Lease one waiting job of whatever kind for `lease_s` seconds.

    A claim whose reply was lost must not be repeated blindly: see `jobs.claimed`.
    """
    params = {"worker_id": worker_id, "claim_id": claim_id, "lease_s": lease_s, "ageing_s": ageing_s}
    (row,) = db.run_tuples("claim_any", params, repeatable=False)
    *lease, passed, wait_s = row
    return Found(None if lease[0] is None else Lease(*lease), passed, wait_s)


def standing(db: Database, job_id: UUID, worker_id: str, token: int | None) -> Standing:
    """Return how a job stands to a worker. Raises NotFound."""
    rows = db.run("standing", {"job_id": job_id, "worker_id": worker_id, "token": token})
    if not rows:
        raise NotFound(f"no job {job_id}")
    (row,) = rows
    ended = None if row["attempt_status"] is None else (row["attempt_status"], row["attempt_reason"])
    return Standing(
        status=Status(row["status"]),
        kind=row["kind"],
        worker_id=row["worker_id"],
        token=row["lease_token"],
        tries=row["tries"],
        lease_left_s=row["lease_left_s"] or 0.0,
        attempt=ended,
    )


def stream_size(db: Database, job_id: UUID, token: int) -> StreamSize | None:
    """Return how much of a stream a lease's attempt has, None when the lease ended."""
    rows = db.run("stream_size", {"job_id": job_id, "token": token})
    return StreamSize(rows[0]["last"], rows[0]["bytes"]) if rows else None


def seen(db: Database, worker_id: str, *, kinds: Sequence[str]) -> None:
    """Write that a worker asked for jobs of these kinds (none: of every kind)."""
    db.run("remote_seen", {"id": worker_id, "kinds": list(kinds)})


def heard(db: Database, worker_id: str) -> None:
    """Write that a worker is at work."""
    db.run("remote_heard", {"id": worker_id})
