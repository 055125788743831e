"""`llm-mcp schedules` as a person types it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from llm_mcp import Schedules, config
from llm_mcp.config import Settings
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store.pool import Connection
from tests.acceptance.running import COMMAND

Type = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def typed(settings: Settings) -> Type:
    """Run `llm-mcp schedules` with these words."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "schedules", *words],
            env={**config.child_environment(settings), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_a_schedule_from_its_first_day_to_its_last(typed: Type, runtime: Runtime, jobs: Jobs, sql: Connection) -> None:
    service = Schedules(runtime)
    assert typed("list").stderr == "no schedules\n"
    words = ["add", "nightly", "echo", "0 3 * * *", "-z", "Europe/Berlin", "--payload", '{"n": 1}', "--priority", "4"]
    made = typed(*words)
    assert made.returncode == 0, made.stderr
    found = service.get("nightly")
    assert made.stdout == f"nightly added, next {found.next_at:%Y-%m-%d %H:%M:%S}Z\n"
    assert (found.cron, found.timezone, found.payload, found.priority) == ("0 3 * * *", "Europe/Berlin", '{"n":1}', 4)
    assert typed(*words).stdout.startswith("nightly unchanged, next ")
    assert typed(*words, "--max-attempts", "1").stdout.startswith("nightly changed, next ")
    (listed,) = json.loads(typed("list", "--json").stdout)
    assert (listed["name"], listed["payload"], listed["max_attempts"]) == ("nightly", {"n": 1}, 1)
    assert listed["next_at"] == found.next_at.isoformat()

    assert typed("pause", "nightly").stdout == "nightly paused\n"
    assert service.get("nightly").paused_at is not None
    ran = typed("run", "nightly")
    assert ran.stdout == f"{service.get('nightly').last_job_id}\n"
    assert [str(job.id) for job in jobs.page()] == [ran.stdout.strip()]
    assert typed("resume", "nightly").stdout.startswith("nightly next ")
    assert service.get("nightly").paused_at is None

    sql.execute("UPDATE llm.schedules SET cron = 'x', paused_at = now(), error = 'cron: cannot be read'")
    table = typed("list").stdout
    assert table.split()[:7] == ["name", "kind", "cron", "timezone", "next", "last", "state"]
    assert "paused: cron: cannot be read" in table
    assert typed("remove", "nightly").stdout == "nightly removed\n"
    assert service.every() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "a", "echo", "0 25 * * *"], "cron: '0 25 * * *': bad hour"),
        (["add", "a", "echo", "0 0 31 2 *"], "cron: '0 0 31 2 *': bad day-of-month"),
        (["add", "a", "echo", "0 3 * * *", "-z", "Bonn"], "timezone: no time zone 'Bonn'"),
        (["add", "", "echo", "0 3 * * *"], "name: must be 1 to 200 printable characters"),
        (["add", "a", "ollama.chat", "0 3 * * *"], "payload: ollama.chat: messages or prompt is required"),
        (["add", "a", "echo", "0 3 * * *", "--payload", "{"], "payload: not JSON: "),
        (["resume", "nobody"], "no schedule 'nobody'"),
    ],
)
def test_what_is_refused_is_one_line_and_exit_code_1(
    typed: Type, runtime: Runtime, words: list[str], said: str
) -> None:
    made = typed(*words)
    assert made.returncode == 1
    assert made.stdout == ""
    assert made.stderr.startswith(f"llm-mcp: {said}")
    assert made.stderr.count("\n") == 1
    assert Schedules(runtime).every() == []


@pytest.mark.parametrize("verb", ["list", "add", "remove", "pause", "resume", "run"])
def test_every_word_explains_itself(typed: Type, verb: str) -> None:
    told = typed(verb, "--help")
    assert told.returncode == 0
    assert f"schedules {verb} [OPTIONS]" in told.stdout
