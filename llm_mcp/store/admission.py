"""What waits, and which keys are taken: what decides whether more jobs are let in, and whether any are left."""

from __future__ import annotations

from collections.abc import Sequence

from .pool import Connection, Database


def depth(db: Database, *, most: int) -> int:
    """Return how many jobs wait, for a worker or for other jobs, counted up to `most`."""
    n: int = db.run("depth", {"most": most})[0]["n"]
    return n


def named(db: Database, keys: Sequence[str], *, conn: Connection | None = None) -> int:
    """Return how many of these idempotency keys name a job now, as `conn` sees it if given."""
    n: int = db.run("named", {"keys": list(keys)}, conn=conn)[0]["n"]
    return n


def waiting(db: Database, kinds: Sequence[str]) -> float | None:
    """Return how long, s, the oldest job of these kinds has waited that may be claimed now.

    Less than 0: there is none, but one that was put off will be one after so long. None: no job waits.
    """
    found = db.run("waiting", {"kinds": list(kinds)})
    return found[0]["waited_s"] if found else None
