"""The command line as a person types it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess

import pytest

from llm_mcp import config
from llm_mcp.config import installed_version
from tests.acceptance.running import COMMAND, Up, kill
from tests.waiting import until


def llm_mcp(
    up: Up | None, *words: str, stdin: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one command against a running system."""
    base = dict(os.environ) if up is None else config.child_environment(up.settings)
    return subprocess.run(
        [*COMMAND, *words],
        env={**base, "COLUMNS": "200", **environment},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_run_prints_the_answer_alone_on_standard_output(shared: Up) -> None:
    made = llm_mcp(shared, "run", "ollama.generate", "--prompt", "hello", "--payload", '{"options":{"num_predict":8}}')
    assert made.returncode == 0, made.stderr
    listed = json.loads(llm_mcp(shared, "jobs", "list", "--json", "--limit", "1").stdout)
    job = shared.job(listed[0]["id"])
    assert made.stdout.rstrip("\n") == job["result"]["response"].rstrip("\n")
    for word in ("tokens", "tokens/s", "first token", "attempt 1", job["id"]):
        assert word in made.stderr


def test_run_reads_the_prompt_from_standard_input(shared: Up) -> None:
    made = llm_mcp(shared, "run", "echo", "--prompt", "-", stdin="a long text")
    assert json.loads(made.stdout) == {"ok": True, "echo": {"prompt": "a long text"}}


def test_run_detached_prints_an_id_that_tail_follows(shared: Up) -> None:
    made = llm_mcp(shared, "run", "test.slow_words", "--payload", '{"count": 30}', "--detach",
                   LLM_MCP_MODULES="")  # fmt: skip
    job_id = made.stdout.strip()
    followed = llm_mcp(shared, "jobs", "tail", job_id)
    assert followed.returncode == 0
    assert followed.stdout.split() == [f"word{n}" for n in range(30)]


def test_ctrl_c_stops_watching_and_the_job_goes_on(shared: Up) -> None:
    watching = subprocess.Popen(
        [*COMMAND, "run", "test.slow_words", "--payload", '{"count": 60, "pause_s": 0.03}'],
        env={**config.child_environment(shared.settings), "LLM_MCP_MODULES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C, and with it all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - takes no lock
    )
    assert watching.stdout is not None
    watching.stdout.read(5)
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert "Traceback" not in said
    job_id = said.rsplit("llm-mcp jobs tail ", 1)[1].split()[0]
    assert shared.finished(job_id)["status"] == "done"


def test_a_job_that_fails_is_exit_code_1_and_says_why(shared: Up) -> None:
    made = llm_mcp(shared, "run", "ollama.generate", "-p", "x", "-m", "nope", "--max-attempts", "1")
    assert made.returncode == 1
    assert made.stdout == ""
    assert "error (failed)" in made.stderr
    assert "nope" in made.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("run", "ollama.generate", "--payload", '{"prompt": 5}'), "payload.prompt"),
        (("run", " ", "--prompt", "x"), "kind"),
        (("run", "echo", "--payload", "{nope"), "payload"),
        (("run", "echo", "--payload", "[1]", "--prompt", "x"), "payload"),
        (("run", "echo", "--priority", "9999999999"), "priority"),
        (("jobs", "list", "--status", "lost"), "--status"),
        (("jobs", "show", "01234567-89ab-7def-8123-456789abcdef"), "01234567"),
        (("jobs", "tail", "01234567-89ab-7def-8123-456789abcdef"), "01234567"),
        (("jobs", "cancel", "01234567-89ab-7def-8123-456789abcdef"), "01234567"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(shared: Up, words: tuple[str, ...], named: str) -> None:
    made = llm_mcp(shared, *words)
    assert made.returncode == 1
    assert len(made.stderr.strip().splitlines()) == 1, made.stderr
    assert named in made.stderr


def test_jobs_list_show_and_cancel(shared: Up) -> None:
    waiting = shared.post("nobody.serves.this", {"a": 1}, source="test-cli")
    listed = llm_mcp(shared, "jobs", "list", "--source", "test-cli").stdout
    assert waiting in listed
    assert "queued" in listed
    shown = llm_mcp(shared, "jobs", "show", waiting).stdout
    assert "no live worker serves 'nobody.serves.this'" in shown
    told = json.loads(llm_mcp(shared, "jobs", "show", waiting, "--json").stdout)
    assert (told["payload"], told["history"], told["served"]) == ({"a": 1}, [], False)
    assert llm_mcp(shared, "jobs", "cancel", waiting).stdout.strip() == f"{waiting} cancelled"
    again = llm_mcp(shared, "jobs", "cancel", waiting)
    assert again.returncode == 1
    assert "error (cancelled)" in llm_mcp(shared, "jobs", "show", waiting).stdout


def test_what_a_model_said_cannot_steer_the_terminal(shared: Up) -> None:
    evil = "\x1b]0;owned\x07 \x9b31m \u202e bidi \U000e0041 tag [red]markup[/red]"
    job_id = shared.post(f"nobody {evil[-18:]}", {"text": evil}, source="evil")
    for words in (("jobs", "show", job_id), ("jobs", "list", "--source", "evil"), ("run", "echo", "-p", evil)):
        made = llm_mcp(shared, *words)
        for char in "\x1b\x07\x9b\u202e\U000e0041":
            assert char not in made.stdout + made.stderr
        assert "[red]markup[/red]" in made.stdout


def test_doctor_says_what_is_wrong_and_how_to_mend_it(shared: Up, tmp_path: str) -> None:
    well = llm_mcp(shared, "doctor")
    assert well.returncode == 0
    lines = [re.fullmatch(r"(ok|warn|fail) +([a-zA-Z ]+): (.+)", line) for line in well.stdout.splitlines()]
    found = {line[2]: line[3] for line in lines if line}
    assert None not in lines
    # What we start ourselves is set up as we say it should be; other tests leave jobs that nobody serves.
    assert {line[2] for line in lines if line and line[1] != "ok"} <= {"kinds"}
    assert found["database"] == "Postgres answers"
    assert found["schema"] == "the schema is up to date"
    assert found["workers"].startswith("2 workers")
    assert found["models"].startswith("the embedded model answers")
    assert found["notices"] == "a notice sent is heard"
    assert {"sessions", "snapshots", "dead rows", "listeners", "connections", "durability"} < set(found)
    shared.post("nobody.serves.that")
    waiting = llm_mcp(shared, "doctor")
    assert waiting.returncode == 0
    assert re.search(
        r"^warn kinds: .*'nobody.serves.that' wait.* → start a worker that does", waiting.stdout, re.MULTILINE
    )
    findings = json.loads(llm_mcp(shared, "doctor", "--json").stdout)
    assert {"verdict": "ok", "name": "database", "what": "Postgres answers", "remedy": ""} in findings
    assert any(one["name"] == "kinds" and one["verdict"] == "warn" and one["remedy"] for one in findings)
    away = llm_mcp(None, "doctor", "--dsn", "postgresql://127.0.0.1:1/nowhere")
    assert away.returncode == 1
    assert "fail database: Postgres does not answer" in away.stdout
    assert "Traceback" not in away.stderr
    idle = llm_mcp(None, "doctor", "--data-dir", f"{tmp_path}/new")
    assert idle.returncode == 0
    assert "llm-mcp up" in idle.stdout


def test_migrate_check_tells_and_changes_nothing(shared: Up, empty_dsn: str) -> None:
    assert llm_mcp(shared, "migrate", "--check").stdout.strip() == "the schema is up to date"
    before = llm_mcp(None, "migrate", "--check", "--dsn", empty_dsn)
    assert before.returncode == 1
    assert "missing 0001 jobs" in before.stdout
    assert llm_mcp(None, "migrate", "--dsn", empty_dsn).stdout.count("applied") > 1
    assert llm_mcp(None, "migrate", "--dsn", empty_dsn).stdout.strip() == "the schema is up to date"
    assert llm_mcp(None, "migrate", "--check", "--dsn", empty_dsn).returncode == 0


def test_without_a_database_each_command_says_what_to_do(tmp_path: str) -> None:
    for words in (("jobs", "list"), ("run", "echo"), ("migrate",), ("worker",)):
        made = llm_mcp(None, *words, LLM_MCP_DATA_DIR=str(tmp_path))
        assert made.returncode == 1, words
        assert "start `llm-mcp up`, or set DB_DSN" in made.stderr
        assert "Traceback" not in made.stderr


def test_help_and_version() -> None:
    told = llm_mcp(None, "--help").stdout
    for command in ("demo", "up", "run", "doctor", "web", "worker", "migrate", "version", "jobs"):
        assert f"\n  {command} " in told
        assert llm_mcp(None, command, "--help").returncode == 0
    assert llm_mcp(None, "version").stdout.strip() == installed_version()


def test_a_worker_alone_says_ready_and_drains(shared: Up) -> None:
    worker = subprocess.Popen(
        [*COMMAND, "worker"], env=config.child_environment(shared.settings), stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    try:
        assert worker.stdout.readline().startswith("ready worker ")
        until(lambda: "3 workers" in llm_mcp(shared, "doctor").stdout)
    finally:
        kill(worker.pid, signal.SIGTERM)
    assert worker.wait(timeout=20) == 0
    assert "2 workers" in llm_mcp(shared, "doctor").stdout
    worker.stdout.close()
