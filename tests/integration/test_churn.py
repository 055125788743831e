"""What a claim costs does not depend on how many jobs went before it, be it that nobody could clean up after them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from psycopg import IsolationLevel

from llm_mcp.store import leases as verbs
from llm_mcp.store.leases import START, Finished, Place
from llm_mcp.store.pool import Connection, Database
from tests.integration.test_plans import VALUES, pages_touched, plan

BACKLOG = 2000
BATCH = 200
HEAD_S = 0.1
"""As long as a claimer goes on where it was, s."""


def pages(conn: Connection, place: Place = START) -> int:
    """Return how many pages a claim of eight touches."""
    asked = {
        **VALUES["turn"],
        "results": "[]",
        "free": 8,
        "aged_from": place.aged_from,
        "fresh_from": place.fresh_from,
        "priority_from": place.priority_from,
        "priority_to": place.priority_to,
    }
    with conn.transaction(force_rollback=True):
        found = plan(conn, "turn", asked)
    assert found[0]["Actual Rows"] == 8
    return pages_touched(found)


class Churn:
    """Jobs that come and go, a batch at a time, in front of a steady backlog."""

    def __init__(self, db: Database, sql: Connection) -> None:
        self._db, self._sql = db, sql
        self._held: list[Finished] = []
        self._head_at = 0.0
        self.place: Place | None = None
        self._add(BACKLOG)

    def _add(self, n: int) -> None:
        self._sql.execute(
            "INSERT INTO llm.jobs (id, kind) SELECT llm.new_id(), 'echo' FROM generate_series(1, %s)", (n,)
        )

    def run(self, n: int) -> None:
        """Submit, lease and finish `n` jobs."""
        for _ in range(n // BATCH):
            self._add(BATCH)
            place = self.place
            if place is None or time.monotonic() - self._head_at > HEAD_S:
                place, self._head_at = START, time.monotonic()
            turn = verbs.turn(
                self._db,
                "w",
                uuid4(),
                kinds=["echo"],
                n=BATCH,
                lease_s=60,
                ageing_s=600,
                finished=self._held,
                place=place,
            )
            assert turn.finished == len(self._held)
            self._held = [Finished(held.job_id, held.token, "{}") for held in turn.leases]
            self.place = turn.place


@contextmanager
def old_snapshot(dsn: str) -> Iterator[None]:
    """Somebody looks at the tables for a long time: nothing that dies meanwhile can be cleaned away."""
    with psycopg.connect(dsn) as conn:
        conn.isolation_level = IsolationLevel.REPEATABLE_READ
        conn.execute("SELECT count(*) FROM llm.jobs")
        yield


def measured(churn: Churn, sql: Connection, n: int, *, cleaned: bool) -> tuple[list[int], list[int]]:
    """Return the pages of a claim at the head, and of one that goes on, before, amid and after `n` jobs.

    `cleaned`: autovacuum comes by before each look, as it does within a minute.
    """
    at_head, going_on = [], []
    for part in (2 * BATCH, n // 2, n // 2):
        churn.run(part)
        if cleaned:
            sql.execute("VACUUM llm.jobs")
        assert churn.place is not None
        going_on.append(pages(sql, churn.place))
        at_head.append(pages(sql))
    print(f"pages a claim, {n} jobs: at the head {at_head}, going on {going_on}")
    return at_head, going_on


@pytest.mark.parametrize("n", [20_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_a_claim_costs_the_same_after_many_jobs(db: Database, sql: Connection, n: int) -> None:
    at_head, going_on = measured(Churn(db, sql), sql, n, cleaned=True)
    assert max(at_head) < 1.5 * at_head[0] + 100, at_head
    assert max(going_on) < 1.5 * going_on[0] + 100, going_on


@pytest.mark.parametrize("n", [20_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_beside_an_old_snapshot_a_busy_claimer_goes_past_what_is_dead(
    db: Database, sql: Connection, dsn: str, n: int
) -> None:
    """At the head it has to step over all that died since; ten times a second, not at every claim."""
    churn = Churn(db, sql)
    with old_snapshot(dsn):
        at_head, going_on = measured(churn, sql, n, cleaned=False)
    assert at_head[-1] > 2 * going_on[-1]  # else there was nothing to go past
    assert max(going_on) < 1.5 * going_on[0] + 100, going_on
