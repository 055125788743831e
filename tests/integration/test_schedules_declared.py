"""Schedules that code declares: written when a worker starts, and run by it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from llm_mcp import Definition, Schedules, SetupError, actor, config, schedule, schedules
from llm_mcp.config import Settings
from llm_mcp.errors import InvalidInput
from llm_mcp.job import Status
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store.pool import Connection
from llm_mcp.worker import Worker
from tests.acceptance.running import COMMAND
from tests.waiting import until


class Note(BaseModel):
    text: str


@actor("test.note", payload=Note, queue="shop", max_attempts=2)
def note(payload: Note) -> str:
    return payload.text


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> dict[str, Definition]:
    """What this process declares: nothing yet."""
    found: dict[str, Definition] = {}
    monkeypatch.setattr(schedules, "declared", found)
    return found


def test_a_declaration_writes_nothing_before_it_is_asked_to(runtime: Runtime) -> None:
    assert schedule("0 7 * * *", timezone="Europe/Berlin", payload={"text": "hi"})(note) is note
    service = Schedules(runtime)
    assert service.every() == []
    service.declare()
    (found,) = service.every()
    assert (found.name, found.kind, found.cron, found.timezone) == (
        *("test.note", "test.note", "0 7 * * *", "Europe/Berlin"),
    )
    assert (found.payload, found.queue, found.max_attempts) == ('{"text":"hi"}', "shop", 2)
    assert (found.source, found.priority) == ("schedule", 0)


def test_one_actor_may_have_several(runtime: Runtime) -> None:
    schedule("0 7 * * *", name="early", payload={"text": "a"}, priority=3)(
        schedule("0 8 * * *", name="late", payload={"text": "b"}, max_attempts=9)(note)
    )
    Schedules(runtime).declare()
    early, late = Schedules(runtime).every()
    assert (early.name, early.payload, early.priority, early.max_attempts) == ("early", '{"text":"a"}', 3, 2)
    assert (late.name, late.payload, late.priority, late.max_attempts) == ("late", '{"text":"b"}', 0, 9)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"cron": "0 7 * *"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"timezone": "Berlin"}, "timezone"),
        ({"name": ""}, "name"),
        ({"payload": {"text": 5}}, "payload.text"),
        ({"payload": None}, "payload.text"),
        ({"payload": {"text": "a\0"}}, "payload.text"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_declared(
    declared: dict[str, Definition], more: dict[str, Any], field: str
) -> None:
    asked: dict[str, Any] = {"cron": "0 7 * * *", "payload": {"text": "hi"}, **more}
    with pytest.raises(InvalidInput) as caught:
        schedule(**asked)(note)
    assert caught.value.field == field
    assert declared == {}


def test_two_schedules_of_one_name_are_a_mistake(declared: dict[str, Definition]) -> None:
    for _ in range(2):
        schedule("0 7 * * *", payload={"text": "hi"})(note)
    with pytest.raises(SetupError, match=r"schedule 'test\.note' is declared twice"):
        schedule("0 8 * * *", payload={"text": "hi"})(note)
    assert declared["test.note"].cron == "0 7 * * *"


def test_one_that_no_row_can_hold_is_named_and_none_is_written(runtime: Runtime) -> None:
    schedule("0 7 * * *", name="good", payload={"text": "hi"})(note)
    schedule("0 7 * * *", name="bad", payload={"text": "hi"}, priority=2**40)(note)
    with pytest.raises(SetupError, match="schedule 'bad': priority: must be a 32-bit integer"):
        Schedules(runtime).declare()
    assert Schedules(runtime).every() == []


def test_the_newest_start_is_right_and_the_same_again_keeps_the_next_tick(
    runtime: Runtime, sql: Connection, declared: dict[str, Definition]
) -> None:
    service = Schedules(runtime)
    schedule("0 7 * * *", payload={"text": "hi"})(note)
    service.declare()
    sql.execute("UPDATE llm.schedules SET next_at = now() - interval '1 s'")
    service.pause("test.note")
    before = service.get("test.note")
    service.declare()
    assert service.get("test.note") == before
    declared.clear()
    schedule("0 9 * * *", payload={"text": "other"})(note)
    service.declare()
    after = service.get("test.note")
    assert (after.cron, after.payload, after.paused_at) == ("0 9 * * *", '{"text":"other"}', before.paused_at)
    assert after.next_at > before.next_at


def test_a_worker_writes_and_runs_what_is_declared(runtime: Runtime, sql: Connection, jobs: Jobs) -> None:
    schedule("0 7 * * *", payload={"text": "hi"})(note)
    worker = Worker(runtime, threads=1)
    worker.start()
    try:
        sql.execute("UPDATE llm.schedules SET next_at = now() - interval '1 s'")
        job_id = until(lambda: Schedules(runtime).get("test.note").last_job_id)
        assert job_id is not None
        until(lambda: jobs.get(job_id).status is Status.DONE)
        assert jobs.get(job_id).result == '"hi"'
    finally:
        worker.drain(5)


_MODULE = """
from llm_mcp import actor, schedule

@schedule("{cron}", name="whole", payload={{"n": 1}})
@actor("test.whole")
def whole(payload):
    return payload["n"] + 1
"""


Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Start]:
    """Start a worker process whose module declares this cron line."""
    begun: list[subprocess.Popen[str]] = []

    def begin(cron: str) -> subprocess.Popen[str]:
        (tmp_path / "whole_module.py").write_text(_MODULE.format(cron=cron))
        environment = config.child_environment(settings.model_copy(update={"modules": "whole_module"}))
        process = subprocess.Popen(
            [*COMMAND, "worker", "--threads", "1"],
            env={
                **environment,
                "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())]),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_process_declares_at_its_start_and_a_later_one_changes_it(
    start: Start, runtime: Runtime, sql: Connection, jobs: Jobs
) -> None:
    service = Schedules(runtime)
    first = start("0 7 * * *")
    assert first.stdout is not None
    assert first.stdout.readline().startswith("ready worker")
    assert service.get("whole").cron == "0 7 * * *"
    sql.execute("UPDATE llm.schedules SET next_at = now() - interval '1 s'")
    job_id = until(lambda: service.get("whole").last_job_id)
    assert job_id is not None
    until(lambda: jobs.get(job_id).status is Status.DONE)
    assert jobs.get(job_id).result == "2"
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0
    later = start("0 8 * * *")
    assert later.stdout is not None
    assert later.stdout.readline().startswith("ready worker")
    assert service.get("whole").cron == "0 8 * * *"


def test_a_process_with_a_bad_schedule_says_so_and_ends(start: Start) -> None:
    process = start("0 25 * * *")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.strip().splitlines()[-1] == (
        "llm-mcp: cannot import whole_module: InvalidInput: '0 25 * * *': bad hour"
    )
