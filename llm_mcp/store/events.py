"""The rows of a stream: appended under the lease, read from any place on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from llm_mcp.errors import LeaseLost, NotFound
from llm_mcp.events import Cursor, Event
from llm_mcp.job import Status

from .pool import Database

PAGE = 500
"""Events one look brings at most."""
_LOOK_BYTES = 2**21
_LOOK_BYTES_EACH = 2**18


@dataclass(frozen=True, slots=True)
class Ask:
    """A watcher's question: what is new of a job after a place, whose status is known to be `told` ("": not known).

    `most`: how many events at most; 0 asks for the status only.
    """

    job_id: UUID
    after: Cursor
    told: str = ""
    most: int = PAGE


@dataclass(frozen=True, slots=True)
class Glance:
    """One look at a stream: the job's status and number of attempts, and events of the newest one, in order.

    `more` says that there may be more of them at once. `items` are (seq, type, JSON text).
    """

    status: Status
    attempts: int
    items: list[tuple[int, str, str]] = field(repr=False)
    more: bool

    @property
    def events(self) -> list[Event]:
        """The events, read anew at each call."""
        return [Event(self.attempts, seq, kind, orjson.loads(data)) for seq, kind, data in self.items]


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


def append_many(db: Database, batches: Sequence[tuple[UUID, int, Sequence[tuple[int, str, str]]]]) -> set[int]:
    """Add the items of many leases, (job id, token, items), in one statement; return the tokens that hold a lease.

    Of each the items are added all or none, as by `append`: of a token that does not come back nothing was written.
    """
    flat = [(token, *item) for _, token, items in batches for item in items]
    params = {
        "job_ids": [job_id for job_id, _, _ in batches],
        "tokens": [token for _, token, _ in batches],
        "owners": [token for token, _, _, _ in flat],
        "seqs": [seq for _, seq, _, _ in flat],
        "types": [kind for _, _, kind, _ in flat],
        "data": [data for _, _, _, data in flat],
    }
    return {row["token"] for row in db.run("append_many", params)}


def follow(db: Database, job_id: UUID, after: Cursor) -> Glance:
    """Return the job's status and the events of its newest attempt after `after`, in one snapshot.

    Where `after` is a place in another attempt, the newest is told from its beginning. Raises NotFound.
    """
    glance = follow_many(db, [Ask(job_id, after)])[0]
    if glance is None:
        raise NotFound(f"no job {job_id}")
    return glance


def follow_many(db: Database, asks: Sequence[Ask]) -> dict[int, Glance | None]:
    """Answer many watchers in one statement: by the ask's index what is new of it, None when there is no such job.

    All answers together are held to some 2 MB: each watcher has its share of that, and the first one at least an event;
    what was left out is `more`.
    """
    asked = [
        {
            "n": n,
            "job_id": str(ask.job_id),
            "attempt": ask.after.attempt,
            "seq": ask.after.seq,
            "told": ask.told,
            "most": ask.most,
        }
        for n, ask in enumerate(asks, 1)
    ]
    share = min(_LOOK_BYTES_EACH, _LOOK_BYTES // len(asks))
    rows = db.run_tuples("follow_many", {"asked": orjson.dumps(asked).decode(), "bytes": share})
    found: dict[int, Glance | None] = {}
    for n, status, attempts, seq, kind, data, more in rows:
        if status is None:
            found[n - 1] = None
            continue
        glance = found.get(n - 1)
        if glance is None:
            glance = found[n - 1] = Glance(Status(status), attempts, [], more)
        if data is not None:
            glance.items.append((seq, kind, data))
    return found


def said(db: Database, job_id: UUID) -> list[dict[str, Any]]:
    """Return the data of all deltas of a job's newest attempt, in order; none for a job that is not there."""
    rows = db.run("said", {"job_id": job_id})
    found: list[dict[str, Any]] = orjson.loads(rows[0]["deltas"] or "[]") if rows else []
    return found


def keep_days(db: Database, *, ahead: int, keep: int) -> None:
    """Make the partitions of the coming `ahead` days and drop those older than `keep` days.

    Raises Unavailable when a long reader is in the way; the next turn will do.
    """
    db.run("add_event_days", {"ahead": ahead})
    db.run("drop_event_days", {"days": keep})
