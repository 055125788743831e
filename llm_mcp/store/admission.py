"""How many jobs wait, and which keys are taken: what decides whether more are let in."""

from __future__ import annotations

from collections.abc import Sequence

from .pool import Connection, Database


def depth(db: Database, *, most: int) -> int:
    """Return how many jobs wait, counted up to `most`; those that wait for other jobs are not in it."""
    n: int = db.run("depth", {"most": most})[0]["n"]
    return n


def named(db: Database, keys: Sequence[str], *, conn: Connection | None = None) -> int:
    """Return how many of these idempotency keys name a job now, as `conn` sees it if given."""
    n: int = db.run("named", {"keys": list(keys)}, conn=conn)[0]["n"]
    return n
