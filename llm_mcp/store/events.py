"""The rows of a stream: appended under the lease, read from any place on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson

from llm_mcp.errors import LeaseLost, NotFound
from llm_mcp.events import Cursor, Event
from llm_mcp.job import Status

from .pool import Database

PAGE = 500
"""Events one look brings at most."""


@dataclass(frozen=True, slots=True)
class Glance:
    """One look at a stream: the job's status and number of attempts, and events of the newest one, in order.

    `more` says that the page was full and the next look may find more at once.
    """

    status: Status
    attempts: int
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
    """Return the job's status and the events of its newest attempt after `after`, in one snapshot.

    Where `after` is a place in another attempt, the newest is told from its beginning. Raises NotFound.
    """
    rows = db.run("follow", {"job_id": job_id, "attempt": after.attempt, "seq": after.seq, "n": PAGE})
    if not rows:
        raise NotFound(f"no job {job_id}")
    status, attempts = Status(rows[0]["status"]), rows[0]["attempts"]
    found = [
        Event(attempts, row["seq"], row["type"], orjson.loads(row["data"])) for row in rows if row["seq"] is not None
    ]
    return Glance(status, attempts, found, len(found) == PAGE)


def keep_days(db: Database, *, ahead: int, keep: int) -> None:
    """Make the partitions of the coming `ahead` days and drop those older than `keep` days.

    Raises Unavailable when a long reader is in the way; the next turn will do.
    """
    db.run("add_event_days", {"ahead": ahead})
    db.run("drop_event_days", {"days": keep})
