"""What responses ask of a job's rows beyond what every door does."""

from __future__ import annotations

from uuid import UUID

from .pool import Database


def spoken_attempts(db: Database, job_id: UUID, attempt: int) -> int:
    """Return how many attempts before this one had words in their stream."""
    n: int = db.run("spoken_attempts", {"job_id": job_id, "attempt": attempt})[0]["n"]
    return n


def delete_job(db: Database, job_id: UUID) -> bool:
    """Delete a finished job that no unfinished one needs; False when it is none, or gone already."""
    return bool(db.run("delete_job", {"job_id": job_id}))
