"""The rows of a stream: appended under the lease, read from any place on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from llm_mcp.errors import LeaseLost, NotFound
from llm_mcp.events import Cursor, Event
from llm_mcp.job import Status

from .pool import Database

PAGE = 500


@dataclass(frozen=True, slots=True)
class Glance:
    """One look at a stream: the job as it stood, and the events after the asked place, in order.

    `more` says that the page was full and the next look may find more at once.
    """

    status: Status
    attempts: int
    updated_at: datetime
    events: list[Event]
    more: bool


def append(db: Database, job_id: UUID, token: int, items: Sequence[tuple[int, str, str]]) -> None:
    """Add (seq, type, JSON text) items to the leased attempt, all or none; repeating a batch changes nothing.

    Raises LeaseLost when the lease is not this token's any more.
    """
    params = {
        "job_id": job_id,
        "token": token,
        "seqs": [seq for seq, _, _ in items],
        "types": [kind for _, kind, _ in items],
        "data": [data for _, _, data in items],
    }
    if not db.run("append", params):
        raise LeaseLost(f"job {job_id}: this lease ended")


def follow(db: Database, job_id: UUID, after: Cursor) -> Glance:
    """Return the job's status and its events after `after`, in one snapshot.

    Raises NotFound.
    """
    rows = db.run("follow", {"job_id": job_id, "attempt": after.attempt, "seq": after.seq, "n": PAGE})
    if not rows:
        raise NotFound(f"no job {job_id}")
    found = [
        Event(row["attempt"], row["seq"], row["type"], orjson.loads(row["data"]))
        for row in rows
        if row["attempt"] is not None
    ]
    first = rows[0]
    return Glance(Status(first["status"]), first["attempts"], first["updated_at"], found, len(found) == PAGE)


def keep_days(db: Database, *, ahead: int, keep: int) -> None:
    """Make the partitions of the coming `ahead` days and drop those older than `keep` days."""
    db.run("add_event_days", {"ahead": ahead})
    db.run("drop_event_days", {"days": keep})
