"""Workers of the version before work on while the schema moves under them, and beside workers of this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from llm_mcp.store.migrate import migrate
from tests.acceptance.checkout import ROOT
from tests.waiting import until

_HISTORY = 200_000
_EVERY_S = 0.01
_BURST = 200
_FIRST_OF_NOW = "db/migrations/0005_batches_and_limits.sql"
_PARTS = ("actors", "web", "db")


def git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version before as an importable folder."""
    added = git("log", "--format=%H", "--diff-filter=A", "--", _FIRST_OF_NOW).decode().split()
    if not added or git("rev-list", "--parents", "-1", added[-1]).decode().count(" ") == 0:
        pytest.skip("this checkout has no history to take the version before from")
    folder = tmp_path_factory.mktemp("before")
    packed = git("archive", f"{added[-1]}^", "llm_mcp", *_PARTS)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed, check=True)
    for part in _PARTS:
        (folder / part).rename(folder / "llm_mcp" / part)
    return folder


@contextmanager
def worker(dsn: str, folder: Path, *, code: Path | None) -> Iterator[subprocess.Popen[str]]:
    """One worker process of this version, or of the one in the folder `code`."""
    environment = {
        **os.environ,
        "DB_DSN": dsn,
        "LLM_MCP_DATA_DIR": str(folder),
        "LLM_MCP_LOG_LEVEL": "WARNING",
        **({} if code is None else {"PYTHONPATH": str(code)}),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "llm_mcp", "worker", "--threads", "4"],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready worker")
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


class Stream(threading.Thread):
    """Submits a job every hundredth of a second by plain SQL, and tells workers, until it is closed."""

    def __init__(self, dsn: str) -> None:
        super().__init__(daemon=True)
        self._dsn = dsn
        self.closing = threading.Event()
        self.sent = 0

    def run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            while not self.closing.wait(_EVERY_S):
                conn.execute("SELECT llm.submit('echo', '{}')")
                conn.execute("NOTIFY job_queued")
                self.sent += 1

    def close(self) -> int:
        self.closing.set()
        self.join(30)
        return self.sent


def waits_s(dsn: str) -> list[float]:
    """Return how long each finished job waited for its claim, s, in the order they were queued."""
    with psycopg.connect(dsn) as conn:
        found = conn.execute(
            "SELECT extract(epoch FROM begun_at - queued_at)::float8 FROM llm.jobs"
            " WHERE status = 'done' AND source = 'sql' ORDER BY queued_at"
        )
        return [row[0] for row in found]


def named(dsn: str) -> int:
    """Return how many workers have their name on a finished job; those of before leave none."""
    with psycopg.connect(dsn) as conn:
        found = conn.execute("SELECT count(DISTINCT worker_id) FROM llm.jobs WHERE source = 'sql'").fetchone()
    assert found is not None
    return int(found[0])


def named_after_burst(dsn: str) -> int:
    """Return `named` once many jobs, submitted at once, are finished."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SELECT llm.submit('echo', '{}') FROM generate_series(1, %s)", (_BURST,))
        conn.execute("NOTIFY job_queued")
        until(lambda: not conn.execute("SELECT FROM llm.jobs WHERE status <> 'done' LIMIT 1").rowcount)
    return named(dsn)


def test_old_workers_run_through_the_migration_and_beside_new_ones(
    empty_dsn: str, before: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {**os.environ, "DB_DSN": empty_dsn, "LLM_MCP_DATA_DIR": str(tmp_path), "PYTHONPATH": str(before)}
    subprocess.run([sys.executable, "-m", "llm_mcp", "migrate"], env=old, cwd=tmp_path, check=True, capture_output=True)
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO llm.jobs (id, kind, status, result, attempts, begun_at, queued_at, run_at, finished_at)"
            " SELECT llm.new_id(), 'echo', 'done', '{}', 1, t, t, t, t FROM generate_series(1, %s) n,"
            " LATERAL (SELECT now() - n * interval '1 s') AS x (t)",
            (_HISTORY,),
        )
        conn.execute(
            "INSERT INTO llm.job_attempts (job_id, attempt, lease_token, worker_id, status, finished_at)"
            " SELECT id, 1, 0, 'w', 'done', finished_at FROM llm.jobs"
        )
        conn.execute("VACUUM ANALYZE llm.jobs, llm.job_attempts")
        stream = Stream(empty_dsn)
        with worker(empty_dsn, tmp_path, code=before), worker(empty_dsn, tmp_path, code=before):
            stream.start()
            until(lambda: len(waits_s(empty_dsn)) > 100)
            calm = max(waits_s(empty_dsn))
            began_at = time.monotonic()
            applied = migrate(empty_dsn)
            took_s = time.monotonic() - began_at
            at = stream.sent
            until(lambda: len(waits_s(empty_dsn)) > at + 100)
            with worker(empty_dsn, tmp_path, code=None):
                at = stream.sent
                until(lambda: len(waits_s(empty_dsn)) > at + 300)
                sent = stream.close()
                until(lambda: len(waits_s(empty_dsn)) == sent)
                # One job at a time may always be theirs whom it reaches first; many at once are everybody's.
                until(lambda: named_after_burst(empty_dsn))
        waits = waits_s(empty_dsn)
        wrong = conn.execute("SELECT FROM llm.jobs WHERE attempts <> 1 OR status <> 'done'").rowcount
    with capsys.disabled():
        print(f"\n{len(applied)} migrations in {took_s:.2f} s; longest wait {max(waits):.3f} s, {calm:.3f} s before")
    assert applied
    assert wrong == 0
    assert named(empty_dsn) == 1
    assert max(waits) < 2.0  # a claim that waited for the whole of a migration of a long history would be seen here
