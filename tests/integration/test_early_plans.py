"""What was planned before there was a job stays planned so for a while: it must not read all the jobs to come."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.store.connection import CONFIGURE, PoolConnection
from tests.integration.rows import add_history, shared_database
from tests.integration.test_plans import VALUES, called, explained, nodes, pages_touched, prepared

ROWS = 20_000
# These are planned anew each time, for their very values.
PLANNED_ANEW = {"advance", "await_needs", "benchmarks", "jobs", "outcomes", "retry", "statuses"}
# A queue's length is counted, and so are the days there are.
COUNTS = {"depth", "drop_event_days", "event_days", "line", "queues", "unserved"}
# These want a batch or a device to be there.
BELONG = {"add_lines", "report_metrics"}
NAMES = sorted(set(VALUES) - PLANNED_ANEW - COUNTS - BELONG)
SOME_PAGES = 200


@pytest.fixture(scope="module")
def pages(postgres: EmbeddedPostgres, template: str) -> dict[tuple[str, bool], int]:
    """How many pages each statement touches that was planned before there was a job, and those of before and after
    Postgres has counted the rows: by its name, and whether they are counted."""
    with shared_database(postgres, template) as dsn, PoolConnection.connect(dsn, autocommit=True) as conn:
        CONFIGURE[False](conn)
        conn.row_factory, conn.prepare_threshold = dict_row, None  # psycopg forgets all that is prepared at a rollback
        for table in ("jobs", "job_attempts"):
            conn.execute(f"ALTER TABLE llm.{table} SET (autovacuum_enabled = off)")
        for name in NAMES:
            conn.execute(prepared(name))
            with conn.transaction(force_rollback=True):
                conn.execute(called(name, VALUES[name]))
        add_history(conn, ROWS)
        early = {(name, False): touched(conn, name) for name in NAMES}
        conn.execute("ANALYZE llm.jobs, llm.job_attempts")
        return early | {(name, True): touched(conn, name) for name in NAMES}


def touched(conn: psycopg.Connection[Any], name: str) -> int:
    with conn.transaction(force_rollback=True):
        return pages_touched(nodes(conn.execute(explained(name, VALUES[name])).fetchone()))


@pytest.mark.parametrize("counted", [False, True], ids=["not counted", "counted"])
@pytest.mark.parametrize("name", NAMES)
def test_a_plan_of_the_first_minute_touches_what_it_needs(
    pages: dict[tuple[str, bool], int], name: str, counted: bool
) -> None:
    assert pages[name, counted] <= SOME_PAGES
