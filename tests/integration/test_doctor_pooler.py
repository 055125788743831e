"""What a pooler between us and Postgres takes away is noticed, said, and not relied on."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from llm_mcp import config
from llm_mcp.config import Settings
from llm_mcp.doctor import Finding, Verdict, examine
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.errors import SetupError, Unavailable
from llm_mcp.job import Status, Submission
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store import connection, health, workers
from llm_mcp.store.health import Sessions
from llm_mcp.store.pool import Database, connect
from tests.acceptance.running import COMMAND
from tests.integration.bouncer import Bouncer, needs_pgbouncer
from tests.integration.proxy import Proxy
from tests.integration.rows import count
from tests.waiting import until

pytestmark = needs_pgbouncer
CLIENTS = 4


@pytest.fixture
def pooler(dsn: str) -> Iterator[Bouncer]:
    """A transaction pooler before the database."""
    with Bouncer(dsn) as made:
        yield made


def said(folder: Path, **settings: Any) -> dict[str, Finding]:
    """Return the doctor's findings about the database, by name; of several under one name the worst."""
    chosen = config.load(data_dir=folder, local_ollama=False, **settings)
    worst: dict[str, Finding] = {}
    for finding in examine(chosen):
        if finding.name not in worst or finding.verdict is not Verdict.OK:
            worst[finding.name] = finding
    return worst


@pytest.mark.parametrize("round_robin", [0, 1])
@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [
        ("transaction", 1, Sessions.SHARED),
        ("transaction", 2, Sessions.SHARED),
        ("transaction", 20, Sessions.SHARED),
        ("statement", 4, Sessions.SHARED),
        ("session", 4, Sessions.KEPT),
    ],
)
def test_a_dsn_shows_whose_its_sessions_are(
    dsn: str, mode: str, size: int, expected: Sessions, round_robin: int
) -> None:
    with Bouncer(dsn, mode=mode, size=size, server_round_robin=round_robin) as pooler:
        assert health.sessions(pooler.dsn) is expected
    assert health.sessions(dsn) is Sessions.OWN


def test_others_traffic_does_not_hide_a_pooler(pooler: Bouncer) -> None:
    done = threading.Event()

    def busy() -> None:
        with connect(pooler.dsn) as conn:
            while not done.wait(0.001):
                conn.execute("SELECT 1")

    others = [threading.Thread(target=busy) for _ in range(3)]
    for thread in others:
        thread.start()
    try:
        assert {health.sessions(pooler.dsn) for _ in range(5)} == {Sessions.SHARED}
    finally:
        done.set()
        for thread in others:
            thread.join()


def test_a_pooler_without_a_free_session_is_not_waited_for(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_PATIENCE_S", 0.3)
    with Bouncer(dsn, mode="session", size=1) as pooler, pytest.raises(Unavailable, match=r"within 0.3 s"):
        health.sessions(pooler.dsn)


def test_whoever_needs_a_session_refuses_a_transaction_pooler(pooler: Bouncer, dsn: str) -> None:
    health.require_sessions(dsn, "DB_DSN")
    with pytest.raises(SetupError, match=r"DB_DSN leads to a transaction pooler.*set LLM_MCP_DB_DIRECT_DSN"):
        health.require_sessions(pooler.dsn, "DB_DSN")


def test_the_lock_of_life_is_seen_where_the_jobs_are_or_not(
    postgres: EmbeddedPostgres, dsn: str, runtime: Runtime
) -> None:
    elsewhere = make_conninfo(postgres.dsn, dbname="template1")
    with connect(dsn) as session, connect(elsewhere) as stranger:
        key = workers.live(runtime.db, session, silence_s=60.0)
        assert health.life_held(runtime.db, key)
        stranger.execute("SELECT pg_advisory_lock(hashtext('llm.workers'), %s)", (key + 1,))
        assert not health.life_held(runtime.db, key + 1)
    until(lambda: not health.life_held(runtime.db, key))


def test_the_doctor_fails_a_transaction_pooler_alone(pooler: Bouncer, tmp_path: Path) -> None:
    found = said(tmp_path, db_dsn=pooler.dsn)
    assert found["sessions"].verdict is Verdict.FAIL
    assert "this DSN leads to a transaction pooler" in found["sessions"].what
    assert "LLM_MCP_DB_DIRECT_DSN" in found["sessions"].remedy
    assert found["waits"].verdict is Verdict.WARN
    assert "notices" not in found  # a LISTEN would stay with whoever comes next
    assert found["crashed"].verdict is Verdict.OK  # all that can be looked at is


def test_the_doctor_leaves_no_setting_in_others_sessions(dsn: str, tmp_path: Path) -> None:
    with Bouncer(dsn, size=1) as pooler:  # so it is the one the doctor used
        said(tmp_path, db_dsn=pooler.dsn)
        with connect(pooler.dsn) as conn:
            found = conn.execute(
                "SELECT current_setting(n) AS at FROM unnest(%s::text[]) n", (["statement_timeout", "lock_timeout"],)
            )
            assert [row["at"] for row in found.fetchall()] == ["0", "0"]


def test_with_a_way_past_the_pooler_all_is_well(pooler: Bouncer, dsn: str, tmp_path: Path) -> None:
    found = said(tmp_path, db_dsn=pooler.dsn, db_direct_dsn=dsn)
    assert [found[name].verdict for name in ("pooler", "sessions", "notices")] == [Verdict.OK] * 3
    assert found["notices"].what == "a notice sent is heard"


def test_a_session_pooler_will_do(dsn: str, tmp_path: Path) -> None:
    with Bouncer(dsn, mode="session", size=20) as pooler:
        found = said(tmp_path, db_dsn=pooler.dsn)
    assert "a pooler keeps a session" in found["sessions"].what
    assert [found[name].verdict for name in ("sessions", "notices")] == [Verdict.OK] * 2


def test_a_direct_way_that_is_a_pooler_too_or_leads_elsewhere_is_a_failure(
    pooler: Bouncer, dsn: str, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    found = said(tmp_path, db_dsn=dsn, db_direct_dsn=pooler.dsn)
    assert found["sessions"].verdict is Verdict.FAIL
    assert "LLM_MCP_DB_DIRECT_DSN leads to a transaction pooler" in found["sessions"].what
    found = said(tmp_path, db_dsn=dsn, db_direct_dsn=make_conninfo(postgres.dsn, dbname="template1"))
    assert found["direct DSN"].verdict is Verdict.FAIL


def test_saying_that_a_pooler_is_none_is_a_failure(pooler: Bouncer, dsn: str, tmp_path: Path) -> None:
    found = said(tmp_path, db_dsn=pooler.dsn, db_direct_dsn=dsn, db_pooler=False)
    assert found["pooler"].verdict is Verdict.FAIL


def test_a_pooler_nobody_spoke_of_is_noticed_before_anything_is_prepared(dsn: str, tmp_path: Path) -> None:
    with Bouncer(dsn, size=2) as pooler:
        in_parallel(config.load(db_dsn=pooler.dsn, data_dir=tmp_path), 100)
        left = "SELECT count(*) AS n, current_setting('statement_timeout') AS bound FROM pg_prepared_statements"
        with connect(pooler.dsn) as one, connect(pooler.dsn) as two:
            for conn in (one, two):
                conn.execute("BEGIN")
                assert conn.execute(left).fetchone() == {"n": 0, "bound": "0"}


def test_what_is_prepared_behind_a_pooler_all_the_same_is_one_clear_error(dsn: str) -> None:
    with Bouncer(dsn, size=1) as pooler:
        one, other = Database(pooler.dsn, pooled=False), Database(pooler.dsn, pooled=False)
        try:
            one.run("workers", prepare=True)
            with pytest.raises(SetupError, match=r"DB_DSN leads to a pooler.*LLM_MCP_DB_POOLER=yes"):
                other.run("workers", prepare=True)
        finally:
            one.close()
            other.close()


@pytest.mark.parametrize(("given", "prepared"), [(None, True), ("no", True), ("yes", False)])
def test_statements_are_prepared_where_no_pooler_is_or_as_it_was_said(
    dsn: str, tmp_path: Path, given: str | None, prepared: bool
) -> None:
    runtime = Runtime(config.load(db_dsn=dsn, data_dir=tmp_path, db_pool_size=1, db_pooler=given))
    try:
        for _ in range(7):
            runtime.db.run("workers")
        with runtime.db._open_pool().connection() as conn:
            found = conn.execute(
                "SELECT count(*) > 0, current_setting('lock_timeout'), current_setting('statement_timeout'),"
                " current_setting('jit') FROM pg_prepared_statements"
            ).fetchone()
        assert found == ((True, "2s", "30s", "off") if prepared else (False, "0", "0", "on"))
    finally:
        runtime.close()


@pytest.mark.parametrize("why", ["no server", "a long statement"])
def test_behind_a_pooler_nothing_is_waited_for_without_end(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    with Bouncer(proxy.dsn) as pooler:
        db = Database(pooler.dsn, pooled=True)
        try:
            assert db.run("workers") == []
            monkeypatch.setattr(connection, "_ANSWER_S", 0.5)
            began_at = time.monotonic()
            if why == "no server":
                proxy.refuse()
            else:
                monkeypatch.setattr(db, "_statements", {"workers": "SELECT pg_sleep(60)"})
            with pytest.raises(Unavailable, match=r"no answer within 0.5 s"):
                db.run("workers")
            assert time.monotonic() - began_at < 10
            monkeypatch.undo()
            proxy.restore()
            if why != "no server":  # to that a pooler itself comes back when it likes
                assert db.run("workers") == []
        finally:
            db.close()


def test_jobs_are_submitted_and_done_through_a_transaction_pooler(
    pooler: Bouncer, dsn: str, sql: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """Every way of ours by the pooler, but for notices and locks: not one prepared statement is missed in it."""
    settings = config.load(db_dsn=pooler.dsn, db_direct_dsn=dsn, data_dir=tmp_path, lease_s=3, poll_s=0.2, reap_s=0.2)
    log = tmp_path / "worker.log"
    with log.open("wb") as file:
        worker = subprocess.Popen(
            [*COMMAND, "worker"], env=config.child_environment(settings), stdout=subprocess.PIPE, stderr=file, text=True
        )
    assert worker.stdout is not None
    try:
        assert worker.stdout.readline().startswith("ready worker "), log.read_text()
        in_parallel(settings, 100)
        left = "SELECT count(*) AS n FROM llm.jobs WHERE status <> 'done'"
        until(lambda: sql.execute(left).fetchone() == {"n": 0})
        assert count(sql) == CLIENTS * 100
        row = sql.execute("SELECT max(attempts) AS most FROM llm.jobs").fetchone()
        assert row == {"most": 1}
    finally:
        os.kill(worker.pid, signal.SIGTERM)
        assert worker.wait(timeout=20) == 0
        worker.stdout.close()
    assert "prepared statement" not in log.read_text()
    assert '"level": "error"' not in log.read_text()
    assert "_missed" not in log.read_text()


def in_parallel(settings: Settings, n: int) -> None:
    """Submit, and look at, `n` jobs from each of some clients at once; raise what one of them met."""
    runtime, met = Runtime(settings), []

    def client() -> None:
        jobs = Jobs(runtime)
        try:
            for _ in range(n):
                assert jobs.get(jobs.submit(Submission(kind="echo"))).status in set(Status)
        except Exception as error:  # noqa: BLE001 - raised below
            met.append(error)

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    runtime.close()
    if met:
        raise met[0]
