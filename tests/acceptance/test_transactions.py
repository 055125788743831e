"""A job submitted inside its caller's transaction shares that transaction's fate, from Python and from SQL."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from llm_mcp import runtime as runtimes
from llm_mcp.actors import echo
from llm_mcp.embedded.cluster import packaged_binaries
from llm_mcp.errors import NotFound
from llm_mcp.jobs import Jobs
from tests.acceptance.running import Up


@pytest.fixture
def jobs(shared: Up) -> Iterator[Jobs]:
    """The service over the running system, as a Python service of a user's own has it."""
    made = shared.jobs()
    runtimes.use(made.runtime)
    yield made
    runtimes.use(None)
    made.runtime.close()


def psql(jobs: Jobs, script: str) -> str:
    """Run a script in a real psql and return what it prints, unaligned and without headings."""
    found = packaged_binaries()
    assert found is not None
    made = subprocess.run(
        [found / "bin" / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", jobs.runtime.dsn],
        input=script,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return made.stdout.strip()


def test_python_commit_runs_it_and_rollback_leaves_nothing(jobs: Jobs) -> None:
    with psycopg.connect(jobs.runtime.dsn) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS orders (n integer)")
        conn.commit()
        conn.execute("INSERT INTO orders VALUES (1)")
        kept = echo.echo.submit(n=1, conn=conn)
        with pytest.raises(NotFound):
            jobs.get(kept.id)  # nobody sees it before the commit
        conn.commit()
        conn.execute("INSERT INTO orders VALUES (2)")
        gone = echo.echo.submit(n=2, conn=conn)
        conn.rollback()
    assert kept.wait(timeout=20) == {"ok": True, "echo": {"n": 1}}
    with pytest.raises(NotFound):
        gone.job()
    with psycopg.connect(jobs.runtime.dsn) as conn:
        assert conn.execute("SELECT array_agg(n) FROM orders").fetchone() == ([1],)


def test_an_error_in_the_callers_block_takes_the_job_with_it(jobs: Jobs) -> None:
    submitted = []

    def serve() -> None:
        with psycopg.connect(jobs.runtime.dsn) as conn:
            submitted.append(echo.echo.submit(n=3, conn=conn))
            raise RuntimeError("the service thinks better of it")

    with pytest.raises(RuntimeError):
        serve()
    with pytest.raises(NotFound):
        submitted[0].job()


def test_sql_commit_runs_it_and_rollback_leaves_nothing(jobs: Jobs) -> None:
    kept = UUID(psql(jobs, """BEGIN; SELECT llm.submit('echo', '{"n": 1}'); COMMIT;"""))
    gone = UUID(psql(jobs, """BEGIN; SELECT llm.submit('echo', '{"n": 2}'); ROLLBACK;"""))
    job = jobs.wait(kept, timeout_s=20)
    assert job.result == '{"ok":true,"echo":{"n":1}}'
    with pytest.raises(NotFound):
        jobs.get(gone)


def test_sql_of_one_line_is_enough(jobs: Jobs) -> None:
    made = UUID(psql(jobs, "SELECT llm.submit('echo')"))
    assert jobs.wait(made, timeout_s=20).result == '{"ok":true,"echo":{}}'


def test_a_payload_that_does_not_fit_its_kind_ends_in_error_when_it_came_by_sql(jobs: Jobs) -> None:
    made = UUID(psql(jobs, """SELECT llm.submit('ollama.generate', '{"prompt": 7}')"""))
    job = jobs.wait(made, timeout_s=20)
    assert (job.status, job.reason, job.attempts) == ("error", "failed", 1)
    assert "payload.prompt" in str(job.error)
