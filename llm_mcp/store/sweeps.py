"""The sweeps over many jobs: what ended, is late or is old is found and moved, in bounded batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from llm_mcp.config import LONGEST_LEASE_S
from llm_mcp.job import Status

from .pool import Database, Row

MAX_CRASHES = 3
SWEEP = 100
"""Jobs one sweep moves at most."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that a sweep moved: its id, and where to."""

    job_id: UUID
    status: Status


def reap(db: Database, gone: Sequence[str] = (), missing: Sequence[str] = ()) -> list[Ended]:
    """Take back one bounded batch of leases that ended, or that are held by the workers `gone`.

    Those of the workers `missing`, who may come back, are left alone. Whose worker lives lost its lease and no worker:
    it is not on its way to be `crashed`.
    """
    return _ended(
        db.run(
            "reap",
            {
                "n": SWEEP,
                "max_crashes": MAX_CRASHES,
                "longest_lease_s": LONGEST_LEASE_S,
                "gone": list(gone),
                "missing": list(missing),
            },
        )
    )


def expire(db: Database) -> list[Ended]:
    """End one bounded batch of jobs past their deadline."""
    return _ended(db.run("expire", {"n": SWEEP}))


def prune(db: Database, *, days: int, n: int = 1000) -> int:
    """Delete up to `n` jobs that finished over `days` days ago and return how many went."""
    return len(db.run("prune", {"days": days, "n": n}))


def prune_some(db: Database, *, days: int, status: Status | None, n: int) -> int:
    """As `prune`, of one status (None: of both)."""
    return len(db.run("prune_some", {"days": days, "status": status and status.value, "n": n}))


def prunable(db: Database, *, days: int, status: Status | None) -> int:
    """Return how many jobs `prune_some` would delete."""
    n: int = db.run("prunable", {"days": days, "status": status and status.value})[0]["n"]
    return n


def expire_results(db: Database, *, n: int) -> int:
    """Forget up to `n` results whose time is over and return how many went."""
    return len(db.run("expire_results", {"n": n}))


def _ended(rows: list[Row]) -> list[Ended]:
    return [Ended(row["id"], Status(row["status"])) for row in rows]
