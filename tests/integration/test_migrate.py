"""The schema arrives once, in order, beside a running queue, in any schema and past any pooler."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from llm_mcp import config
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.errors import SetupError, Unavailable
from llm_mcp.events import Cursor
from llm_mcp.job import Status, Submission
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store import events, sweeps, workers
from llm_mcp.store import leases as lease_rows
from llm_mcp.store.leader import Leadership
from llm_mcp.store.migrate import Migration, migrate, migrations, pending
from llm_mcp.store.pool import Database, connect
from tests.conftest import _database
from tests.integration.rows import add
from tests.waiting import until

_LOCKS = """SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
             WHERE l.locktype = 'advisory' AND d.datname = current_database()"""

NEXT = len(migrations()) + 1


def made_up(version: int, text: str, name: str = "extra") -> Migration:
    return Migration(version, name, text, hashlib.sha256(text.encode()).hexdigest())


@contextmanager
def reader(dsn: str, table: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A transaction that has read a table and goes on."""
    with psycopg.connect(dsn) as conn:
        conn.execute(f"SELECT count(*) FROM {table}")
        yield conn


@pytest.fixture
def dsn(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """A database for each test, for these change the schema."""
    yield from _database(postgres, template)


def test_everything_is_applied_once_and_told(empty_dsn: str) -> None:
    told: list[str] = []
    applied = migrate(empty_dsn, on_applied=lambda made: told.append(made.name))
    assert [made.version for made in applied] == list(range(1, len(applied) + 1))
    assert told == [made.name for made in applied]
    assert migrate(empty_dsn) == []
    with connect(empty_dsn) as conn:
        assert pending(conn) == []


def test_check_sees_what_is_missing_and_changes_nothing(empty_dsn: str) -> None:
    with connect(empty_dsn) as conn:
        assert pending(conn) == migrations()
        assert conn.execute("SELECT FROM pg_namespace WHERE nspname = 'llm'").rowcount == 0


def test_a_file_edited_after_it_was_applied_is_refused(dsn: str) -> None:
    shipped = migrations()
    shipped[1] = replace(shipped[1], sha256="0" * 64)
    with connect(dsn) as conn, pytest.raises(SetupError, match="migration 0002 submit was edited after it was applied"):
        pending(conn, shipped=shipped)
    with pytest.raises(SetupError, match="edited"):
        migrate(dsn, shipped=shipped)


def test_a_newer_database_is_left_alone(dsn: str) -> None:
    with pytest.raises(SetupError, match=r"newer than this llm-mcp .*upgrade llm-mcp"):
        migrate(dsn, shipped=migrations()[:2])


def test_a_file_that_fails_leaves_no_trace_and_the_ones_before_stay(dsn: str) -> None:
    shipped = [
        *migrations(),
        made_up(NEXT, "CREATE TABLE llm.good (n integer)"),
        made_up(NEXT + 1, "CREATE TABLE llm.half (n integer); SELECT 1 / 0", "broken"),
    ]
    with pytest.raises(SetupError, match="migrate: broken: division by zero"):
        migrate(dsn, shipped=shipped)
    with connect(dsn) as conn:
        assert [left.version for left in pending(conn, shipped=shipped)] == [NEXT + 1]
        there = conn.execute("SELECT to_regclass('llm.good') AS good, to_regclass('llm.half') AS half").fetchone()
        assert there is not None
        assert there["good"]
        assert not there["half"]


def test_two_migrators_at_once_apply_everything_once(empty_dsn: str) -> None:
    applied: list[Migration] = []
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(migrate, empty_dsn, on_applied=applied.append) for _ in range(4)]:
            done.result(60)
    assert sorted(made.version for made in applied) == [made.version for made in migrations()]


def test_a_long_reader_holds_up_the_migrator_but_not_the_queue_behind_it(dsn: str) -> None:
    shipped = [*migrations(), made_up(NEXT, "ALTER TABLE llm.jobs ADD COLUMN extra integer")]
    database = Database(dsn)
    with reader(dsn, "llm.jobs") as conn:
        migrator = threading.Thread(target=migrate, args=(dsn,), kwargs={"shipped": shipped})
        migrator.start()
        with connect(dsn) as other:
            until(
                lambda: (
                    other.execute("SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'").rowcount
                )
            )
        # A submit waits for one lock_timeout of the migrator at the most, never for the reader.
        add(database)
        assert migrator.is_alive()
        conn.rollback()
        migrator.join(30)
        assert not migrator.is_alive()
    database.close()
    with connect(dsn) as conn2:
        assert pending(conn2, shipped=shipped) == []


def test_patience_ends(dsn: str) -> None:
    shipped = [*migrations(), made_up(NEXT, "ALTER TABLE llm.jobs ADD COLUMN extra integer")]
    with reader(dsn, "llm.jobs"), pytest.raises(SetupError, match=r"extra: no lock within 0\.3 s"):
        migrate(dsn, shipped=shipped, patience_s=0.3)


def test_a_file_outside_of_a_transaction(dsn: str) -> None:
    text = "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_extra ON llm.jobs (source)"
    shipped = [*migrations(), made_up(NEXT, text)]
    assert [made.version for made in migrate(dsn, shipped=shipped)] == [NEXT]
    with connect(dsn) as conn:
        conn.execute(
            "DELETE FROM llm.schema_migrations WHERE version = (SELECT max(version) FROM llm.schema_migrations)"
        )  # it ended between the statement and the record
    assert [made.version for made in migrate(dsn, shipped=shipped)] == [NEXT]
    assert migrate(dsn, shipped=shipped) == []


def test_no_lock_outlives_the_file_it_was_taken_for(dsn: str) -> None:
    """A pooler hands the session on: a lock left in it would be held for ever, by nobody."""
    held: list[int] = []
    with connect(dsn) as conn:
        migrate(
            dsn,
            shipped=[*migrations(), made_up(NEXT, "SELECT 1")],
            on_applied=lambda _: held.append(conn.execute(_LOCKS).rowcount),
        )
    assert held == [0]


def test_a_schema_made_by_somebody_else_is_enough(empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as admin:
        name = f"guest_{uuid4().hex[:12]}"
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
        admin.execute(f"CREATE SCHEMA llm AUTHORIZATION {name}")
        try:
            assert migrate(make_conninfo(empty_dsn, user=name, password="x"))
            admin.execute("DROP SCHEMA llm CASCADE")
            with pytest.raises(SetupError, match="permission denied"):
                migrate(make_conninfo(empty_dsn, user=name, password="x"))
        finally:
            admin.execute(f"DROP OWNED BY {name}")
            admin.execute(f"DROP ROLE {name}")


def test_no_server_and_no_utf_8(postgres: object, empty_dsn: str) -> None:
    with pytest.raises(Unavailable):
        migrate("postgresql://nobody@127.0.0.1:1/nothing")
    name = f"latin_{uuid4().hex[:12]}"
    with psycopg.connect(empty_dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
        try:
            with pytest.raises(SetupError, match="LATIN1: UTF8 is needed"):
                migrate(make_conninfo(empty_dsn, dbname=name))
        finally:
            admin.execute(f"DROP DATABASE {name}")


@pytest.mark.parametrize("schema", ["other", "user"])
def test_every_verb_works_in_another_schema_beside_ours(dsn: str, schema: str) -> None:
    """`user` is a word of SQL: a name that is not quoted would not even parse."""
    migrate(dsn, schema=schema)
    runtime = Runtime(config.load(db_dsn=dsn, db_schema=schema))
    db, service = runtime.db, Jobs(runtime)
    try:
        ids = [service.submit(Submission(kind="echo", payload={"n": n})) for n in range(3)]
        leases = lease_rows.claim(db, "w", uuid4(), kinds=["echo"], n=3, lease_s=30, ageing_s=600)
        assert {lease.job_id for lease in leases} == set(ids)
        done, failed, released = leases
        assert len(lease_rows.heartbeat(db, [(lease.job_id, lease.token) for lease in leases], lease_s=30)) == 3
        events.append(db, done.job_id, done.token, [(1, "delta", '{"text": "x"}')])
        lease_rows.complete(db, done.job_id, done.token, result="{}")
        lease_rows.complete(db, done.job_id, done.token, result="{}")
        lease_rows.fail(db, failed.job_id, failed.token, error="no", retryable=False, delay_s=0)
        lease_rows.release(db, [(released.job_id, released.token)])
        service.cancel(released.job_id)
        assert len(events.follow(db, done.job_id, Cursor()).events) == 1
        assert {service.get(job_id).status for job_id in ids} == {Status.DONE, Status.ERROR}
        assert len(service.attempts(done.job_id)) == 1
        assert len(service.page()) == 3
        assert sweeps.reap(db) == sweeps.expire(db) == []
        assert sweeps.prune(db, days=1) == 0
        events.keep_days(db, ahead=9, keep=1)
        workers.seen(db, "w", name="", host="", pid=1, version="", kinds=[], threads=1, running=0)
        assert service.unserved() == {}
        assert len(service.workers()) == 1
        workers.stopped(db, "w")
        workers.forget(db)
        with connect(dsn) as conn:
            assert pending(conn, schema) == []  # this schema's own ledger has every migration
            row = conn.execute(f"SELECT \"{schema}\".submit('echo', '{{\"n\": 1}}') AS id").fetchone()
            assert row is not None
            assert service.get(row["id"]).status is Status.QUEUED
            ours = conn.execute("SELECT (SELECT count(*) FROM llm.jobs) + (SELECT count(*) FROM llm.job_events) AS n")
            assert ours.fetchone() == {"n": 0}
    finally:
        runtime.close()


def test_each_schema_has_a_leader_of_its_own(dsn: str) -> None:
    ours, same, other = Leadership(dsn, "llm"), Leadership(dsn, "llm"), Leadership(dsn, "other")
    assert ours.held()
    assert other.held()
    assert not same.held()
    ours.resign()
    until(same.held)
    for leadership in (same, other):
        leadership.resign()
