"""A migrated database that the tests of one file share, emptied between them, and jobs in a wanted state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import uuid_utils.compat
from psycopg.conninfo import make_conninfo

from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.job import Lease, Submission
from llm_mcp.store import jobs, leases, workers
from llm_mcp.store.pool import Connection, Database, connect


@contextmanager
def shared_database(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    """Make a copy of the migrated template, give its DSN, and drop it in the end."""
    name = f"shared_{uuid4().hex[:16]}"
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")  # these tests crash no server
    try:
        yield make_conninfo(server.dsn, dbname=name)
    finally:
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def emptied(dsn: str) -> str:
    """Delete every row of ours and return the DSN."""
    with connect(dsn) as conn:
        empty(conn)
    return dsn


def empty(conn: Connection) -> None:
    """Delete every row of ours."""
    for table in (
        "job_events",
        "job_attempts",
        "jobs",
        "workers",
        "schedules",
        "limits",
        "paused_queues",
        "job_needs",
        "blocked_jobs",
        "devices",
    ):
        conn.execute(f"DELETE FROM llm.{table}")


def add(
    db: Database, kind: str = "echo", payload: str = "{}", *, conn: psycopg.Connection[Any] | None = None, **more: Any
) -> UUID:
    """Submit one job; `more` are fields of its submission."""
    submission = Submission(kind=kind, **{"max_attempts": 3, **more})
    (job_id,) = jobs.submit(
        db, [jobs.New(uuid_utils.compat.uuid7(), submission, payload, "default", submission.max_attempts)], conn=conn
    )
    return job_id


def add_history(conn: psycopg.Connection[Any], rows: int) -> None:
    """Add so many finished jobs with their attempts, as many that wait, and of these have 50 run."""
    conn.execute(
        "INSERT INTO llm.jobs (id, kind, status, result, attempts, begun_at, queued_at, run_at, finished_at)"
        " SELECT llm.new_id(), 'echo', 'done', '{}', 1, now(), t, t, t FROM generate_series(1, %s) n,"
        " LATERAL (SELECT now() - n * interval '10 s') AS x (t)",
        (rows,),
    )
    conn.execute(
        "INSERT INTO llm.jobs (id, kind, priority) SELECT llm.new_id(), 'echo', n %% 5 FROM generate_series(1, %s) n",
        (rows,),
    )
    conn.execute(
        "WITH few AS (SELECT id FROM llm.jobs WHERE status = 'queued' LIMIT 50)"
        " UPDATE llm.jobs j SET status = 'running', attempts = 1, begun_at = now(), worker_id = 'w',"
        " lease_token = nextval('llm.lease_tokens'), lease_until = now() + interval '1 min'"
        " FROM few WHERE j.id = few.id"
    )
    conn.execute(
        "INSERT INTO llm.job_attempts (job_id, attempt, lease_token, worker_id, status, finished_at)"
        " SELECT id, 1, 0, 'w', 'done', finished_at FROM llm.jobs WHERE status = 'done'"
    )


def claim(db: Database, worker_id: str = "w", *, n: int = 1, lease_s: float = 60.0, **more: Any) -> list[Lease]:
    """Claim echo jobs."""
    asked: dict[str, Any] = {"kinds": ["echo"], "ageing_s": 600.0, **more}
    return leases.claim(db, worker_id, uuid4(), n=n, lease_s=lease_s, **asked)


def lease(db: Database, worker_id: str = "w", **more: Any) -> Lease:
    """Submit one job and claim it; `more` are fields of its submission."""
    job_id = add(db, **more)
    (found,) = claim(db, worker_id)
    assert found.job_id == job_id
    return found


def alive(dsn: str, db: Database, worker_id: str) -> Connection:
    """Report a worker with a life lock and return the session that holds it."""
    session = connect(dsn)
    key = workers.live(db, session, silence_s=20.0)
    report(db, worker_id, key)
    return session


def report(db: Database, worker_id: str, life_key: int | None) -> None:
    """Report a worker, with the key of its life lock if it has one."""
    workers.seen(
        db,
        worker_id,
        name="",
        host="",
        pid=1,
        version="",
        kinds=[],
        threads=1,
        running=1,
        life_key=life_key,
    )


def rewind(dsn: str, job_id: UUID, seconds: float = 3600.0) -> None:
    """Let a running job's lease have ended so many seconds ago."""
    with connect(dsn) as conn:
        found = conn.execute(
            "UPDATE llm.jobs SET lease_until = now() - make_interval(secs => %s) WHERE id = %s AND status = 'running'",
            (seconds, job_id),
        )
        assert found.rowcount == 1


def whole(dsn: str, job_id: UUID) -> dict[str, Any]:
    """Return everything the tables say about a job: its row, its attempts and its events."""
    with connect(dsn) as conn:
        row = conn.execute("SELECT * FROM llm.jobs WHERE id = %s", (job_id,)).fetchone()
        attempts = conn.execute("SELECT * FROM llm.job_attempts WHERE job_id = %s ORDER BY attempt", (job_id,))
        found = conn.execute("SELECT * FROM llm.job_events WHERE job_id = %s ORDER BY attempt, seq", (job_id,))
        return {"job": row, "attempts": attempts.fetchall(), "events": found.fetchall()}


def count(sql: Connection) -> int:
    """Return how many jobs there are."""
    row = sql.execute("SELECT count(*) AS n FROM llm.jobs").fetchone()
    assert row is not None
    return int(row["n"])
