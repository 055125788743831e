"""The rows of what jobs need, and the judging of those that wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from llm_mcp.job import Reason, Status

from .pool import Connection, Database
from .sweeps import Ended

MOVED = 5000
"""Jobs one statement lets go, or ends, at most."""
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a job stands, and what it left: `result` is JSON text."""

    status: Status
    reason: Reason | None
    error: str | None
    result: str | None


def advance(
    db: Database, *, needed: Sequence[UUID] = (), job_ids: Sequence[UUID] = (), conn: Connection | None = None
) -> list[Ended]:
    """Judge the blocked jobs that need one of `needed`, which are finished, and those of `job_ids`; return what moved.

    A job that moved may be claimed from now on (`queued`), or ended for what it needed did (`error`); then those that
    need it in turn are judged too. More than a hundred thousand at once are left for another look.
    """
    moved: list[Ended] = []
    causes = list(needed)
    for _ in range(_ROUNDS):
        params = {"needed": causes, "job_ids": list(job_ids), "n": MOVED}
        # Planned for the tables as they are now: how many need how many differs too much for one plan.
        found = [Ended(row["id"], Status(row["status"])) for row in db.run("advance", params, conn=conn, prepare=False)]
        moved += found
        ended = [one.job_id for one in found if one.status is Status.ERROR]
        if not ended and len(found) < MOVED:
            break
        causes += ended
    return moved


def await_finishers(db: Database, job_ids: Sequence[UUID]) -> None:
    """Wait until nobody is in the middle of finishing what these jobs need. Takes as long as that commit, ms."""
    db.run("await_needs", {"job_ids": list(job_ids)}, prepare=False)


def blocked(db: Database, *, after: UUID, n: int) -> list[UUID]:
    """Return up to `n` jobs that are, or lately were, blocked: those next after the id `after`."""
    return [row["job_id"] for row in db.run("blocked", {"after": after, "n": n})]


def inputs(db: Database, job_id: UUID) -> list[str | None]:
    """Return the results (JSON text) of what a job needs, in order; None for one without a result."""
    return [row["result"] for row in db.run("inputs", {"job_id": job_id})]


def statuses(db: Database, job_ids: Sequence[UUID]) -> dict[UUID, Status]:
    """Return where these jobs stand; one that is not there is left out."""
    return {row["id"]: Status(row["status"]) for row in db.run("statuses", {"job_ids": list(job_ids)}, prepare=False)}


def outcomes(db: Database, job_ids: Sequence[UUID]) -> dict[UUID, Outcome]:
    """Return how these jobs ended; one that is not there is left out."""
    return {
        row.pop("id"): Outcome(
            Status(row["status"]), row["reason"] and Reason(row["reason"]), row["error"], row["result"]
        )
        for row in db.run("outcomes", {"job_ids": list(job_ids)}, prepare=False)
    }
