"""What the doctor sees of a server: all of it is really so, in one that is set up as carelessly as can be."""

from __future__ import annotations

import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import pq
from psycopg.conninfo import make_conninfo

from llm_mcp import config
from llm_mcp.doctor import Finding, Verdict, examine, server
from llm_mcp.embedded import postgres as embedded
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.runtime import Runtime
from llm_mcp.store.migrate import migrate
from llm_mcp.store.pool import Connection, Database, connect
from tests.conftest import new_scratch
from tests.waiting import until

CARELESS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "30",
    "max_prepared_transactions": "2",
    "max_notify_queue_pages": "8192",  # 64 MiB
    "autovacuum": "off",
    "tcp_keepalives_idle": "0",
    "tcp_keepalives_interval": "0",
    "tcp_keepalives_count": "0",
    "tcp_user_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
LISTENER = """
import psycopg, sys
with psycopg.connect(sys.argv[1], autocommit=True) as conn:
    conn.execute("LISTEN news")
    print(conn.execute("SELECT pg_backend_pid()").fetchone()[0], flush=True)
    for _ in conn.notifies():
        pass
"""


@pytest.fixture(scope="module")
def careless() -> Iterator[str]:
    """DSN of a migrated database on a server of its own."""
    scratch = new_scratch("careless")
    made = EmbeddedPostgres(scratch / "data")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(embedded, "_SETTINGS", {**embedded._SETTINGS, **CARELESS})
            made.start()
        migrate(made.dsn)
        yield made.dsn
    finally:
        made.stop()
        shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture
def bad(careless: str, tmp_path: Path) -> Iterator[Runtime]:
    """A runtime over it."""
    made = Runtime(config.load(db_dsn=careless, data_dir=tmp_path))
    yield made
    made.close()


@pytest.fixture
def admin(careless: str) -> Iterator[Connection]:
    """A connection to it."""
    with connect(careless) as conn:
        yield conn


def warnings(found: Iterator[Finding]) -> list[Finding]:
    """Return what is not well."""
    return [finding for finding in found if finding.verdict is not Verdict.OK]


def the_one(found: Iterator[Finding]) -> Finding:
    """Return the only finding."""
    (only,) = found
    return only


def pid(conn: Connection) -> int:
    """Return which backend a connection has."""
    return conn.info.backend_pid


def test_an_old_snapshot_is_found_while_it_lasts(bad: Runtime, careless: str) -> None:
    with connect(careless, autocommit=False) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT count(*) FROM llm.jobs")
        assert the_one(server.snapshots(bad.db)).verdict is Verdict.OK  # not for a minute yet
        (found,) = until(lambda: warnings(server.snapshots(bad.db, older_s=0.2)))
        assert f"backend {pid(reader)} (llm-mcp, postgres, idle in transaction)" in found.what
        assert "keeps VACUUM from" in found.what
        assert f"pg_terminate_backend({pid(reader)})" in found.remedy
    assert until(lambda: not warnings(server.snapshots(bad.db, older_s=0.2)))


def test_an_open_transaction_without_a_snapshot_is_said_to_be_open_and_no_more(bad: Runtime, careless: str) -> None:
    with connect(careless, autocommit=False) as idler:
        idler.execute("SELECT 1")
        (found,) = until(lambda: warnings(server.snapshots(bad.db, older_s=0.1)))
        assert str(pid(idler)) in found.what
        assert "VACUUM" not in found.what


def test_another_databases_snapshot_holds_nothing_here(bad: Runtime, careless: str) -> None:
    with connect(make_conninfo(careless, dbname="template1"), autocommit=False) as stranger:
        stranger.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        stranger.execute("SELECT count(*) FROM pg_class")
        time.sleep(0.2)
        assert not warnings(server.snapshots(bad.db, older_s=0.1))


def test_a_forgotten_prepared_transaction_is_found(bad: Runtime, admin: Connection) -> None:
    admin.execute("BEGIN")
    admin.execute("UPDATE llm.workers SET running = 0")
    admin.execute("CREATE TABLE of_nobody ()")
    admin.execute("PREPARE TRANSACTION 'for''gotten'")
    try:
        (found,) = until(lambda: warnings(server.snapshots(bad.db, older_s=0.1)))
        assert 'prepared transaction "for\'gotten" (postgres)' in found.what
    finally:
        admin.execute("ROLLBACK PREPARED 'for''gotten'")
    assert not warnings(server.snapshots(bad.db, older_s=0.0))


@contextmanager
def standby(dsn: str, slot: str | None, xmin: int) -> Iterator[None]:
    """Read the log, by a slot or not, as a standby does, and say that a query here still needs all since `xmin`."""
    conn = pq.PGconn.connect(make_conninfo(dsn, replication="true", application_name="standby").encode())
    try:
        by = "" if slot is None else f"SLOT {slot}"
        assert conn.exec_(f"START_REPLICATION {by} PHYSICAL 0/1000000".encode()).status == pq.ExecStatus.COPY_BOTH
        conn.put_copy_data(b"h" + struct.pack(">qIIII", 0, xmin, 0, 0, 0))
        conn.flush()
        yield
    finally:
        conn.finish()


def test_a_slot_that_nobody_reads_any_more_is_found(bad: Runtime, careless: str, admin: Connection) -> None:
    admin.execute("SELECT pg_create_physical_replication_slot('lost', true)")
    row = admin.execute("SELECT txid_current() AS xid").fetchone()
    assert row is not None
    try:
        with standby(careless, "lost", row["xid"]):
            held = "SELECT FROM pg_replication_slots WHERE slot_name = 'lost' AND xmin IS NOT NULL"
            until(lambda: admin.execute(held).rowcount)
            assert not warnings(server.snapshots(bad.db, older_s=0.0))  # it is read: a standby may lag
        (found,) = until(lambda: warnings(server.snapshots(bad.db)))
        assert "replication slot 'lost' (unused)" in found.what
        assert "pg_drop_replication_slot" in found.remedy
    finally:
        until(lambda: admin.execute("SELECT FROM pg_replication_slots WHERE active").rowcount == 0)
        admin.execute("SELECT pg_drop_replication_slot('lost')")


@pytest.mark.parametrize(
    ("slot", "words"), [("behind", "slot 'behind' (active)"), (None, "(standby, postgres, active)")]
)
def test_a_standby_far_behind_is_found(
    bad: Runtime, careless: str, admin: Connection, monkeypatch: pytest.MonkeyPatch, slot: str | None, words: str
) -> None:
    monkeypatch.setattr(server, "_BEHIND", 5)
    if slot is not None:
        admin.execute("SELECT pg_create_physical_replication_slot(%s, true)", (slot,))
    row = admin.execute("SELECT txid_current() AS xid").fetchone()
    assert row is not None
    try:
        with standby(careless, slot, row["xid"]):
            for _ in range(7):
                admin.execute("SELECT txid_current()")
            (found,) = until(lambda: warnings(server.snapshots(bad.db)))
            assert words in found.what
    finally:
        until(lambda: admin.execute("SELECT FROM pg_stat_replication").rowcount == 0)
        admin.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def test_a_stopped_listener_is_found_and_really_keeps_vacuum(bad: Runtime, careless: str, admin: Connection) -> None:
    admin.execute("CREATE TABLE died AS SELECT n FROM generate_series(1, 1000) n")
    child = subprocess.Popen([sys.executable, "-c", LISTENER, careless], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        listener = int(child.stdout.readline())
        assert [finding.what for finding in server.listeners(bad.db, older_s=0.2)] == ["all read their notices"]
        child.send_signal(signal.SIGSTOP)
        for _ in range(12):
            admin.execute("SELECT pg_notify('news', n || repeat('x', 7000)) FROM generate_series(1, 500) n")
        stalled, full = until(
            lambda: found if len(found := warnings(server.listeners(bad.db, older_s=0.2))) == 2 else []
        )
        assert f"backend {listener} (127.0.0.1) has not read its notices" in stalled.what
        assert f"pg_terminate_backend({listener})" in stalled.remedy
        assert "the queue of notices is" in full.what
        admin.execute("DELETE FROM died")
        told: list[str] = []
        admin.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        admin.execute("VACUUM (VERBOSE) died")
        assert any("1000 are dead but not yet removable" in line for line in told), told
        child.send_signal(signal.SIGCONT)
        until(lambda: not [one for one in warnings(server.listeners(bad.db, older_s=0.2)) if "backend" in one.what])
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    until(lambda: not admin.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (listener,)).rowcount)
    admin.execute("DROP TABLE died")


def test_dead_rows_that_nobody_removes_are_found(bad: Runtime, admin: Connection) -> None:
    assert the_one(server.dead_rows(bad.db)).verdict is Verdict.OK
    admin.execute("INSERT INTO llm.jobs (id, kind) SELECT llm.new_id(), 'echo' FROM generate_series(1, 12000)")
    admin.execute("DELETE FROM llm.jobs")
    admin.execute("SELECT pg_stat_force_next_flush()")
    (found,) = until(lambda: warnings(server.dead_rows(bad.db)))
    assert found.what == "jobs: 12000 dead beside 0 live, vacuumed never"
    assert "VACUUM llm.jobs" in found.remedy
    admin.execute("VACUUM llm.jobs")
    until(lambda: the_one(server.dead_rows(bad.db)).verdict is Verdict.OK)


@pytest.fixture
def careful(dsn: str, tmp_path: Path) -> Iterator[Runtime]:
    """A runtime over the usual server, with sessions that wait for the disk (those of the tests' databases do not)."""
    made = Runtime(config.load(db_dsn=make_conninfo(dsn, options="-c synchronous_commit=on"), data_dir=tmp_path))
    yield made
    made.close()


def test_what_a_crash_may_lose_is_said(bad: Runtime, careful: Runtime) -> None:
    said = [finding.what for finding in warnings(server.durability(bad))]
    assert [what.split(" is off")[0] for what in said] == ["fsync", "full_page_writes", "synchronous_commit"]
    assert "up to 600 ms" in said[2]
    assert the_one(server.durability(careful)).what == "what was submitted is on disk"


def test_a_standby_that_nobody_waits_for_is_said(careful: Runtime, dsn: str, sql: Connection) -> None:
    sql.execute("SELECT pg_create_physical_replication_slot('follower', true)")
    try:
        with standby(dsn, "follower", 0):
            until(lambda: sql.execute("SELECT FROM pg_stat_replication").rowcount)
            assert "not yet on a standby" in the_one(server.durability(careful)).what
    finally:
        until(lambda: sql.execute("SELECT FROM pg_replication_slots WHERE active").rowcount == 0)
        sql.execute("SELECT pg_drop_replication_slot('follower')")


def test_a_server_that_never_misses_its_clients_is_found(bad: Runtime, runtime: Runtime) -> None:
    (found,) = warnings(server.vanished(bad))
    for words in ("keeps its locks for 2 h", "stopped reading is not cut", "for ever"):
        assert words in found.what
    for name in ("tcp_keepalives_idle = 5", "tcp_user_timeout = '8s'", "idle_in_transaction_session_timeout = '60s'"):
        assert f"ALTER SYSTEM SET {name}" in found.remedy
    assert the_one(server.vanished(runtime)).what == "noticed within 11 s"


def test_too_few_connections_and_few_left_are_found(bad: Runtime, runtime: Runtime, careless: str) -> None:
    assert the_one(server.connections(runtime)).verdict is Verdict.OK
    (found,) = warnings(server.connections(bad))
    assert "of 27 used; a process of ours may open 21: too few" in found.what
    small = Runtime(bad.settings.model_copy(update={"db_pool_size": 4}))
    taken: list[Connection] = []
    try:
        assert the_one(server.connections(small)).verdict is Verdict.OK
        taken += [connect(careless) for _ in range(21)]
        (found,) = warnings(server.connections(small))
        assert "raise max_connections" in found.remedy
        assert "too few" not in found.what
    finally:
        small.close()
        for conn in taken:
            conn.close()


@pytest.mark.parametrize(("ahead_s", "verdict"), [(0.0, Verdict.OK), (-3600.0, Verdict.WARN), (90.0, Verdict.WARN)])
def test_a_clock_that_is_off_is_said(db: Database, ahead_s: float, verdict: Verdict) -> None:
    def ours() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=ahead_s)

    found = the_one(server.clock(db, ours=ours))
    assert found.verdict is verdict
    if ahead_s:
        assert f"{abs(ahead_s):.1f} s {'behind' if ahead_s > 0 else 'ahead of'} ours" in found.what


@pytest.fixture
def plain(dsn: str, sql: Connection) -> Iterator[Callable[[], str]]:
    """A role with no more rights than its tables', and two connections at most."""
    sql.execute("CREATE ROLE plain LOGIN PASSWORD 'x' CONNECTION LIMIT 40")
    sql.execute("GRANT USAGE ON SCHEMA llm TO plain; GRANT ALL ON ALL TABLES IN SCHEMA llm TO plain")
    yield lambda: make_conninfo(dsn, user="plain", password="x")
    sql.execute("DROP OWNED BY plain; DROP ROLE plain")


def test_a_role_that_may_not_see_others_is_told_so_and_sees_the_rest(
    plain: Callable[[], str], dsn: str, sql: Connection, tmp_path: Path
) -> None:
    settings = config.load(db_dsn=plain(), data_dir=tmp_path, local_ollama=False)
    found = {finding.name: finding for finding in examine(settings)}
    assert "GRANT pg_monitor" in found["snapshots"].what
    assert "of 40 used" in found["connections"].what
    assert not [finding.what for finding in found.values() if "could not" in finding.what]
    sql.execute("REVOKE SELECT ON llm.jobs FROM plain")
    found = {finding.name: finding for finding in examine(settings)}
    assert "could not be looked at: this database role lacks rights" in found["crashed"].what
    assert found["event days"].verdict is Verdict.OK
