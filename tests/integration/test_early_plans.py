"""What was planned before there was a job stays planned so for a while: it must not read all the jobs to come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.store.connection import CONFIGURE, PoolConnection
from llm_mcp.store.sql import numbered, statements
from tests.integration.rows import shared_database
from tests.integration.test_plans import VALUES, in_order, nodes

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
def pages(postgres: EmbeddedPostgres, template: str) -> Iterator[dict[tuple[str, bool], int]]:
    """How many pages each statement touches that was planned before there was a job, and those of before and after
    Postgres has counted the rows: by its name, and whether they are counted."""
    with shared_database(postgres, template) as dsn, PoolConnection.connect(dsn, autocommit=True) as conn:
        CONFIGURE[False](conn)
        conn.row_factory, conn.prepare_threshold = dict_row, None  # psycopg forgets all that is prepared at a rollback
        for table in ("jobs", "job_attempts"):
            conn.execute(f"ALTER TABLE llm.{table} SET (autovacuum_enabled = off)")
        for name in NAMES:
            conn.execute(f"PREPARE {name} AS {numbered(statements()[name])[0].decode()}", prepare=False)
            with conn.transaction(force_rollback=True):
                conn.execute(call(name), prepare=False)
        fill(conn)
        early = {(name, False): touched(conn, name) for name in NAMES}
        conn.execute("ANALYZE llm.jobs, llm.job_attempts")
        yield early | {(name, True): touched(conn, name) for name in NAMES}


def fill(conn: psycopg.Connection[Any]) -> None:
    """Add as many finished jobs as waiting ones, and a few that run."""
    conn.execute(
        "INSERT INTO llm.jobs (id, kind, status, result, attempts, begun_at, queued_at, run_at, finished_at)"
        " SELECT llm.new_id(), 'echo', 'done', '{}', 1, now(), t, t, t FROM generate_series(1, %s) n,"
        " LATERAL (SELECT now() - n * interval '10 s') AS x (t)",
        (ROWS,),
    )
    conn.execute(
        "INSERT INTO llm.job_attempts (job_id, attempt, lease_token, worker_id, status, finished_at)"
        " SELECT id, 1, 0, 'w', 'done', finished_at FROM llm.jobs"
    )
    conn.execute(
        "INSERT INTO llm.jobs (id, kind, priority) SELECT llm.new_id(), 'echo', n %% 5 FROM generate_series(1, %s) n",
        (ROWS,),
    )
    conn.execute(
        "UPDATE llm.jobs SET status = 'running', attempts = 1, begun_at = now(), worker_id = 'w',"
        " lease_token = nextval('llm.lease_tokens'), lease_until = now() + interval '1 min'"
        " WHERE id IN (SELECT id FROM llm.jobs WHERE status = 'queued' LIMIT 50)"
    )


def call(name: str) -> sql.Composed:
    """Return the call of a statement that is prepared under its own name."""
    given = sql.SQL(", ").join(map(sql.Literal, in_order(name).values()))
    return sql.SQL("EXECUTE {} ({})" if VALUES[name] else "EXECUTE {}").format(sql.Identifier(name), given)


def touched(conn: psycopg.Connection[Any], name: str) -> int:
    explained = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ") + call(name)
    with conn.transaction(force_rollback=True):
        plan = nodes(conn.execute(explained, prepare=False).fetchone())[0]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize("counted", [False, True], ids=["not counted", "counted"])
@pytest.mark.parametrize("name", NAMES)
def test_a_plan_of_the_first_minute_touches_what_it_needs(
    pages: dict[tuple[str, bool], int], name: str, counted: bool
) -> None:
    assert pages[name, counted] <= SOME_PAGES
