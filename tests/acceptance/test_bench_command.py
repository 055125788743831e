"""`llm-mcp bench queue`: figures of this set-up, by real workers, in a schema that is gone afterwards."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from llm_mcp import config
from llm_mcp.config import Settings
from llm_mcp.embedded import cluster
from llm_mcp.job import Status, Submission
from llm_mcp.jobs import Jobs
from tests.acceptance.running import COMMAND, living, wait_gone
from tests.conftest import new_scratch
from tests.integration.bouncer import Bouncer, needs_pgbouncer
from tests.waiting import until

RATES = ("submit_per_s", "batch_submit_per_s", "drain_per_s", "drain_committed_per_s", "stub_drain_per_s")
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'llm\\_bench%'"


def begin(settings: Settings, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "bench", "queue", *words],
        env={**config.child_environment(settings), "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for its end and that of all it started; return exit code, standard output and standard error."""
    said, complained = process.communicate(timeout=120)
    # Whatever it starts is told its process id; a port of others may be the same number.
    wait_gone(
        lambda command, _: any(
            word == str(process.pid) and before not in ("--port", "--context")
            for before, word in itertools.pairwise(command.split())
        ),
        timeout_s=10,
    )
    return process.returncode, said, complained


def run(settings: Settings, *words: str) -> tuple[int, str, str]:
    return finished(begin(settings, *words))


def measured(settings: Settings, *words: str) -> dict[str, Any]:
    code, said, complained = run(settings, *words, "--json")
    assert code == 0, complained
    return dict(json.loads(said))


def said_by(process: subprocess.Popen[str], word: str) -> None:
    """Read its standard error up to the line with this word."""
    assert process.stderr is not None
    assert any(word in line for line in process.stderr)


def schemas(dsn: str) -> list[str]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        return [name for (name,) in conn.execute(_SCHEMAS).fetchall()]


@dataclass
class Witness:
    """What was seen of scratch schemas from outside."""

    workers: set[tuple[int, int, str]] = field(default_factory=set)
    """Process id, threads, and version."""
    done: int = 0
    """Jobs that were done at the same time."""


@contextmanager
def witness(dsn: str) -> Iterator[Witness]:
    seen, over = Witness(), threading.Event()

    def look() -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            while not over.wait(0.05):
                for (name,) in conn.execute(_SCHEMAS).fetchall():
                    asked = sql.SQL("SELECT pid, threads, version FROM {0}.workers").format(sql.Identifier(name))
                    done = sql.SQL("SELECT count(*) FROM {0}.jobs WHERE status = 'done'").format(sql.Identifier(name))
                    try:
                        seen.workers.update(conn.execute(asked).fetchall())
                        row = conn.execute(done).fetchone()
                        seen.done = max(seen.done, row[0] if row else 0)
                    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                        continue  # not made yet, or gone

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(10)
        assert not thread.is_alive()


def test_figures_come_from_real_workers_and_nothing_of_the_users_is_touched(settings: Settings, jobs: Jobs) -> None:
    own = jobs.submit(Submission(kind="echo"))
    dsn = jobs.runtime.dsn
    with witness(dsn) as seen:
        found = measured(settings, "--jobs", "200", "--threads", "3", "--processes", "2")
    print(found)
    assert all(found[name] > 0 for name in RATES)
    assert 0 < found["pickup_ms_p50"] <= found["pickup_ms_p99"]
    assert {name: found[name] for name in ("jobs", "threads", "processes", "server", "version")} == {
        "jobs": 200,
        "threads": 3,
        "processes": 2,
        "server": "yours",
        "version": config.installed_version(),
    }
    assert found["batch_submit_per_s"] > found["submit_per_s"]
    assert any("10,000 and more" in sentence for sentence in found["advice"])
    assert sorted(threads for _, threads, _ in seen.workers) == [3, 3]
    # Submitted one by one, in batches, drained, picked up: nothing was only said to be done.
    assert seen.done >= 200 + 200 + 200 + found["pickups"]
    assert schemas(dsn) == []
    assert jobs.get(own).status is Status.QUEUED  # though its workers have an actor for it
    assert jobs.workers() == []
    assert [job.id for job in jobs.page()] == [own]


@pytest.mark.parametrize(
    ("number", "during"),
    [(signal.SIGINT, "draining"), (signal.SIGTERM, "starting"), (signal.SIGHUP, "submitting"), (signal.SIGINT, "stub")],
)
def test_an_interrupted_run_leaves_nothing(settings: Settings, dsn: str, number: signal.Signals, during: str) -> None:
    process = begin(settings, "--jobs", "3000", "--json")
    said_by(process, during)
    assert schemas(dsn) != []
    while process.poll() is None:  # who is impatient gets no less
        process.send_signal(number)
        time.sleep(0.02)
    code, said, complained = finished(process)
    assert code == 128 + number
    assert said == ""
    assert complained.splitlines()[-1] == "interrupted: cleaning up"
    assert "Traceback" not in complained
    assert schemas(dsn) == []


def test_what_a_killed_run_left_is_dropped_by_the_next_and_no_other_schema(settings: Settings, dsn: str) -> None:
    process = begin(settings, "--jobs", "3000")
    said_by(process, "draining")
    process.kill()
    finished(process)
    (left,) = schemas(dsn)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA llm_bench_of_mine")
    # One that runs at the same time has a lock on its own.
    other = begin(settings, "--jobs", "20", "--json")
    until(lambda: len(schemas(dsn)) >= 2 and left not in schemas(dsn))
    code, said, complained = run(settings, "--jobs", "20", "--json")
    assert code == 0, complained
    assert "left behind" not in complained
    assert json.loads(said)["jobs"] == 20
    code, _, complained = finished(other)
    assert code == 0, complained
    assert f"dropped {left}, left behind" in complained
    assert schemas(dsn) == ["llm_bench_of_mine"]


@needs_pgbouncer
def test_a_pooler_is_measured_with_and_told_of(settings: Settings, dsn: str) -> None:
    with Bouncer(dsn) as bouncer:
        pooled = settings.model_copy(update={"db_dsn": SecretStr(bouncer.dsn)})
        code, said, complained = run(pooled, "--jobs", "20")
        assert (code, said) == (1, "")
        assert "LLM_MCP_DB_DIRECT_DSN" in complained
        direct = pooled.model_copy(update={"db_direct_dsn": SecretStr(dsn)})
        found = measured(direct, "--jobs", "20")
    assert found["pooled"] is True
    assert any("transaction pooler" in sentence for sentence in found["advice"])
    assert schemas(dsn) == []


def test_what_may_be_lost_is_said(settings: Settings, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        database = sql.Identifier(conninfo_to_dict(dsn)["dbname"])  # type: ignore[arg-type] # it has one
        conn.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(database))
    # How many jobs may wait is for the user's own queue.
    small = settings.model_copy(update={"max_queued": 10})
    found = measured(small, "--jobs", "20", "--threads", "1")
    assert found["synchronous_commit"] == "off"
    assert any("synchronous_commit is off" in one and "set synchronous_commit = on" in one for one in found["advice"])


@pytest.mark.skipif(cluster.unavailable_reason() is not None, reason=f"{cluster.unavailable_reason()}")
def test_without_a_postgres_one_is_started_for_the_moment(settings: Settings) -> None:
    scratch = new_scratch("bench-command")
    try:
        data_dir = scratch / "data"
        none = settings.model_copy(update={"db_dsn": None, "data_dir": data_dir})
        code, said, complained = run(none, "--jobs", "20")
        assert code == 0, complained
        assert "starting a temporary one" in complained.splitlines()[0]
        assert "drain, first start to last" in said
        assert "(temporary)" in said
        assert "for the disk" in said
        assert all(len(line) <= 100 for line in said.splitlines())
        assert list(scratch.iterdir()) == []
        assert not living(lambda command, _: str(scratch) in command)
    finally:
        if scratch.exists():
            scratch.rmdir()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--jobs", "0"), "--jobs: must be between 1 and"),
        (("--threads", "0"), "--threads: must be between 1 and 512"),
        (("--processes", "65"), "--processes: must be between 1 and 64"),
        (("--dsn", "postgresql://nobody@127.0.0.1:9/nothing"), "Postgres does not answer"),
        (("--dsn", "nonsense"), "DB_DSN: not a Postgres DSN"),
    ],
)
def test_what_cannot_be_measured_is_one_line(settings: Settings, words: tuple[str, str], told: str) -> None:
    code, said, complained = run(settings, *words)
    assert (code, said) == (1, "")
    (line,) = complained.splitlines()
    assert line.startswith(f"llm-mcp: {told}")


def test_who_may_make_no_schema_is_told_so(settings: Settings, dsn: str, tmp_path: Path) -> None:
    name = f"guest_{os.getpid()}"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'guest'").format(sql.Identifier(name)))
        try:
            guest = make_conninfo(dsn, user=name, password="guest")
            code, said, complained = run(settings, "--jobs", "20", "--dsn", guest)
        finally:
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
    assert (code, said) == (1, "")
    assert "permission denied for database" in complained.splitlines()[-1]
    assert "Traceback" not in complained
