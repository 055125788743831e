"""Who is at work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from .pool import Connection, Database

_PROBES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker process as the database saw it last."""

    id: str
    name: str
    host: str
    pid: int | None
    version: str
    kinds: list[str]
    threads: int
    running: int
    started_at: datetime
    seen_at: datetime
    stopped_at: datetime | None


def seen(
    db: Database,
    worker_id: str,
    *,
    name: str,
    host: str,
    pid: int,
    version: str,
    kinds: Sequence[str],
    threads: int,
    running: int,
    life_key: int | None = None,
) -> int:
    """Write that this worker is alive, takes these kinds and runs so many jobs now; return how many others take some of
    these kinds.

    `life_key` is what `live` returned for it: without that lock it counts as gone.
    """
    found = db.run(
        "worker_seen",
        {
            "id": worker_id,
            "name": name,
            "host": host,
            "pid": pid,
            "version": version,
            "kinds": list(kinds),
            "threads": threads,
            "running": running,
            "life_key": life_key,
        },
    )
    peers: int = found[0]["peers"]
    return peers


def live(db: Database, conn: Connection, *, silence_s: float) -> int:
    """Take the lock that says, for as long as the session `conn` lasts, that its process lives; return its key.

    A peer that only falls silent (its network was cut) loses the session after `silence_s` seconds, not before.
    """
    probe_s = math.ceil(silence_s / _PROBES)
    db.run("silence", {"probe_s": probe_s, "probes": _PROBES, "timeout_ms": 1000 * probe_s * _PROBES}, conn=conn)
    key: int = db.run("live", conn=conn)[0]["key"]
    return key


def absent(db: Database) -> list[str]:
    """Return the ids of workers that hold leases and not the lock they said they hold."""
    return [row["id"] for row in db.run("absent")]


def stopped(db: Database, worker_id: str) -> None:
    """Write that this worker left in good order."""
    db.run("worker_stopped", {"id": worker_id})


def alive(db: Database) -> list[Worker]:
    """Return the workers that have not signed off and were seen within the last minute, newest first."""
    return [Worker(**row) for row in db.run("workers")]


def forget(db: Database) -> None:
    """Drop the rows of workers not seen for a day."""
    db.run("forget_workers")
