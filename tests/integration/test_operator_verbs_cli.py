"""`llm-mcp limits`, `queues` and the operator's verbs of `jobs`, as a person types them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

import pytest

from llm_mcp import config
from llm_mcp.config import Settings
from llm_mcp.job import Status
from llm_mcp.jobs import Jobs
from llm_mcp.limits import Limits, Queues
from llm_mcp.runtime import Runtime
from llm_mcp.store import leases as verbs
from llm_mcp.store.pool import Connection, Database
from tests.acceptance.running import COMMAND
from tests.integration.rows import add, claim, count, lease
from tests.integration.test_operator_verbs import errors, failed

Type = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def typed(settings: Settings) -> Type:
    """Run `llm-mcp` with these words."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words],
            env={**config.child_environment(settings), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_a_limit_from_its_first_day_to_its_last(typed: Type, runtime: Runtime, db: Database) -> None:
    limits = Limits(runtime)
    assert typed("limits", "list").stderr == "no limits\n"
    made = typed("limits", "set", "echo", "--running", "2", "--rate", "10/m")
    assert (made.stdout, made.returncode) == ("echo: 2 at once, 10/m with bursts of 1\n", 0)
    assert typed("limits", "set", "echo", "--running", "0").stdout == "echo: 0 at once, 10/m with bursts of 1\n"
    assert typed("limits", "set", "echo", "--burst", "3").stdout == "echo: 0 at once, 10/m with bursts of 3\n"
    limits.set("echo", max_running=2)
    lease(db)
    (listed,) = json.loads(typed("limits", "list", "--json").stdout)
    datetime.fromisoformat(listed.pop("updated_at"))
    assert listed == {"kind": "echo", "max_running": 2, "rate": 10, "per_s": 60.0, "burst": 3, "running": 1}
    head, row = (line.split() for line in typed("limits", "list").stdout.splitlines())
    assert head == ["kind", "running", "at", "once", "rate", "burst"]
    assert row == ["echo", "1", "2", "10/m", "3"]
    lifted = typed("limits", "set", "echo", "--running", "any", "--rate", "any")
    assert lifted.stdout == "echo: no limit\n"
    assert typed("limits", "remove", "echo").stdout == "echo has no limit any more\n"
    assert limits.every() == []


def test_a_queue_is_listed_paused_and_resumed(typed: Type, runtime: Runtime, db: Database) -> None:
    assert typed("queues", "list").stderr == "no jobs wait or run, and no queue is paused\n"
    add(db)
    assert typed("queues", "pause", "default").stdout == "default paused\n"
    again = typed("queues", "pause", "default")
    assert (again.stdout, again.returncode) == ("default is paused already\n", 0)
    (listed,) = json.loads(typed("queues", "list", "--json").stdout)
    assert (listed["name"], listed["queued"], listed["running"]) == ("default", 1, 0)
    assert datetime.fromisoformat(listed["paused_at"]) == Queues(runtime).every()[0].paused_at
    assert listed["oldest_s"] >= 0
    row = typed("queues", "list").stdout.splitlines()[1].split()
    assert row[:3] == ["default", "1", "0"]
    assert row[5:7] == ["paused", "since"]
    assert typed("queues", "resume", "default").stdout == "default resumed\n"
    assert typed("queues", "resume", "default").stdout == "default is not paused\n"


def test_errors_are_tried_anew_by_id_or_all_of_a_sort(typed: Type, db: Database, sql: Connection, jobs: Jobs) -> None:
    job_id, waiting, unknown = failed(db), add(db), uuid4()
    told = typed("jobs", "retry", str(job_id), str(waiting), str(unknown))
    assert told.returncode == 1
    assert told.stdout == f"{job_id} queued again\n"
    assert told.stderr == f"job {waiting} did not end in error: queued\nno job {unknown}\n"
    held = claim(db)[0]
    verbs.fail(db, held.job_id, held.token, error="no", retryable=False, delay_s=0)
    assert typed("jobs", "retry", str(held.job_id)).returncode == 0
    errors(sql, 3, reason="crashed")
    errors(sql, 4)
    errors(sql, 2, kind="other")
    assert typed("jobs", "retry", "--reason", "crashed").stdout == "3 jobs queued again\n"
    assert typed("jobs", "retry", "--kind", "other", "--limit", "1").stdout == "1 job queued again\n"
    assert typed("jobs", "retry", "--status", "error").stdout == "5 jobs queued again\n"
    assert typed("jobs", "retry", "--status", "error").stdout == "0 jobs queued again\n"


def test_running_jobs_are_taken_back(typed: Type, db: Database, jobs: Jobs) -> None:
    held = lease(db)
    told = typed("jobs", "requeue", str(held.job_id))
    assert (told.stdout, told.returncode) == (f"{held.job_id} queued again\n", 0)
    assert jobs.get(held.job_id).status is Status.QUEUED
    told = typed("jobs", "requeue", str(held.job_id))
    assert (told.stderr, told.returncode) == (f"job {held.job_id} is not running: queued\n", 1)


def test_old_jobs_are_counted_then_deleted_and_the_way_is_told(typed: Type, sql: Connection) -> None:
    errors(sql, 2100)
    sql.execute("UPDATE llm.jobs SET finished_at = now() - interval '3 d'")
    errors(sql, 1)
    assert typed("jobs", "prune", "--days", "2", "--dry-run").stdout == "2100 jobs would be deleted\n"
    assert typed("jobs", "prune", "--days", "2", "--status", "done").stdout == "0 jobs deleted\n"
    assert count(sql) == 2101
    told = typed("jobs", "prune", "--days", "2", "--status", "error")
    assert told.stdout == "2100 jobs deleted\n"
    assert told.stderr == "1000 deleted\n2000 deleted\n"
    assert count(sql) == 1


def test_a_result_that_expired_is_said_to_have(typed: Type, db: Database, sql: Connection) -> None:
    held = lease(db)
    verbs.complete(db, held.job_id, held.token, result="null")
    assert "expired" not in typed("jobs", "show", str(held.job_id)).stdout
    sql.execute("UPDATE llm.jobs SET result_until = now()")
    assert typed("jobs", "show", str(held.job_id)).stdout.endswith("result expired\n")
    assert json.loads(typed("jobs", "show", str(held.job_id), "--json").stdout)["result"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["limits", "set", "echo"], "--running: give a number"),
        (["limits", "set", "echo", "--running", "two"], "--running: must be a number or 'any', not 'two'"),
        (["limits", "set", "echo", "--running", "-1"], "--running: must be a number or 'any', not '-1'"),
        (["limits", "set", "echo", "--rate", "ten"], "--rate: must be such as 10/s"),
        (["limits", "set", "echo", "--burst", "2"], "--burst: needs a rate"),
        (["limits", "set", " ", "--running", "2"], "kind: kind must not be blank"),
        (["limits", "remove", "echo"], "no limit for 'echo'"),
        (["queues", "pause", ""], "name: must be 1 to 200 printable characters"),
        (["jobs", "retry"], "ID: give ids, --status error, --reason or --kind"),
        (["jobs", "retry", "--limit", "3"], "ID: give ids, --status error, --reason or --kind"),
        (["jobs", "retry", str(uuid4()), "--kind", "echo"], "ID: give ids, or options that name jobs, not both"),
        (["jobs", "retry", "--status", "done"], "--status: only jobs that ended in error are tried again"),
        (["jobs", "retry", "--reason", "bored"], "--reason: must be one of failed, cancelled"),
        (["jobs", "prune", "--days", "1", "--status", "running"], "--status: must be done or error"),
        (["jobs", "requeue", "01234567-89ab-7def-8123-456789abcdef"], "no job 01234567-89ab"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(typed: Type, words: list[str], said: str) -> None:
    made = typed(*words)
    assert made.returncode == 1
    assert made.stdout == ""
    (line,) = made.stderr.splitlines()
    assert said in line
