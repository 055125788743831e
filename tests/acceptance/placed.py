"""Kinds whose jobs say how many others of them they met: each holds one of so many places while it runs."""

from __future__ import annotations

import time

from pydantic import BaseModel

from llm_mcp import Run, actor
from llm_mcp.store.pool import connect


class Placed(BaseModel):
    """How many places there are, and how long to hold one, s."""

    places: int
    hold_s: float


@actor("test.placed", payload=Placed)
def placed(payload: Placed, run: Run) -> dict[str, float | bool]:
    """Hold a place, a lock of the database's, and tell from when to when, and whether there was none left."""
    with connect(run.runtime.dsn) as conn:
        crowded = True
        for place in range(payload.places):
            row = conn.execute("SELECT pg_try_advisory_lock(7777, %s) AS got", (place,)).fetchone()
            if row is not None and row["got"]:
                crowded = False
                break
        began_at = time.monotonic()
        time.sleep(payload.hold_s)
        ended_at = time.monotonic()
        # Given up before we say that we are done: the next one may begin before this session is gone.
        conn.execute("SELECT pg_advisory_unlock_all()")
    return {"from": began_at, "to": ended_at, "crowded": crowded}


@actor("test.declared", max_running=3, rate="600/m")
def declared(payload: object) -> None:
    """Do nothing, under limits."""
