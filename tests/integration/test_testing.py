"""What we give users for their tests: an actor alone, a queue run empty, a Postgres."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dramatiq.middleware import Middleware
from pydantic import BaseModel

from llm_mcp import Run, actor, around, config, surroundings, testing
from llm_mcp import runtime as runtimes
from llm_mcp.actors import ollama
from llm_mcp.broker import broker
from llm_mcp.errors import InvalidInput, ProviderError, SetupError, WaitTimeout
from llm_mcp.job import Status
from llm_mcp.jobs import Jobs
from llm_mcp.providers.fake import Fake, Text
from llm_mcp.run import current
from llm_mcp.runtime import Runtime
from llm_mcp.store.pool import Connection, connect
from llm_mcp.testing import drain, inline
from tests.integration.rows import whole

ROOT = Path(__file__).parents[2]
ran: list[Any] = []


class Order(BaseModel):
    item: str
    count: int = 1


@actor("testing.order", payload=Order)
def order(payload: Order, run: Run) -> dict[str, Any]:
    """Take an order."""
    run.progress(0.5, "packing")
    run.text("one ")
    run.text("two")
    run.text(" three")
    run.thinking("hm")
    run.metrics["packed"] = payload.count
    assert current() is run
    return {"bought": (payload.item,) * payload.count}


@actor("testing.note")
def note(payload: Any, run: Run) -> Any:
    """Note what was run, and do as told."""
    ran.append(payload["x"])
    match payload.get("how"):
        case "fail":
            raise InvalidInput("cannot be", field="x")
        case "retry":
            raise ProviderError("hiccup", retryable=True, retry_after_s=0.01)
        case "exit":
            raise SystemExit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "sum":
            return sum(run.inputs())
        case "more":
            note.submit(x=payload["x"] + 1)
        case "hang":
            while not threading.Event().wait(0.01):
                run.check()
        case "steal":
            with connect(run.runtime.dsn) as conn:
                conn.execute("UPDATE llm.jobs SET lease_token = lease_token + 1000 WHERE status = 'running'")
    return payload["x"]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_surroundings", [])
    ran.clear()


@pytest.fixture
def nowhere(tmp_path: Path) -> Iterator[Runtime]:
    """A runtime whose database does not exist."""
    made = Runtime(config.load(db_dsn="postgresql://127.0.0.1:1/nowhere", data_dir=tmp_path, max_stream_bytes=2000))
    runtimes.use(made)
    yield made
    runtimes.use(None)
    made.close()


# — inline —


def test_an_actor_alone(nowhere: Runtime) -> None:
    done = inline(order, item="pen", count=2)
    assert done.result == {"bought": ["pen", "pen"]}, "as its reader gets it: JSON"
    assert done.error is None
    assert done.text == "one two three"
    assert [(event.seq, event.type, event.data) for event in done.events] == [
        (1, "progress", {"fraction": 0.5, "note": "packing"}),
        (2, "delta", {"text": "one "}),
        (3, "delta", {"text": "two"}),
        (4, "delta", {"text": " three"}),
        (5, "delta", {"thinking": "hm"}),
    ]
    assert done.metrics["packed"] == 2
    assert {"ms", "ttft_ms"} <= set(done.metrics)
    with pytest.raises(RuntimeError, match="no job is running"):
        current()


@pytest.mark.parametrize(
    ("payload", "fields", "fault"),
    [
        ({"item": 1}, {}, r"payload\.item"),
        (None, {}, r"payload\.item"),
        ({"item": "x"}, {"count": "many"}, r"payload\.count"),
        ({"item": float("nan")}, {}, r"payload\.item"),
        ([], {"item": "x"}, "payload"),
    ],
)
def test_a_payload_that_no_door_would_take(nowhere: Runtime, payload: Any, fields: Any, fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        inline(order, payload, raises=False, **fields)
    assert fault.replace("\\", "") == refused.value.field


def test_what_the_actor_raises(nowhere: Runtime) -> None:
    with pytest.raises(InvalidInput, match="cannot be"):
        inline(note, x=1, how="fail")
    failed = inline(note, {"x": 1}, how="fail", raises=False)
    assert (failed.result, str(failed.error)) == (None, "cannot be")


def test_results_of_needed_jobs_are_given(nowhere: Runtime) -> None:
    assert inline(note, x=1, how="sum", inputs=[2, 40]).result == 42
    with pytest.raises(TypeError):
        inline(note, x=1, how="sum", inputs=[object()])


def test_what_is_around_it_is_around_it_here(nowhere: Runtime) -> None:
    around(lambda run, call: [run.lease.kind, run.payload["x"], call()])
    assert inline(note, x=7).result == ["testing.note", 7, 7]


def test_the_stream_has_its_bound_here(nowhere: Runtime) -> None:
    @actor("testing.talk")
    def talk(payload: Any, run: Run) -> str:
        for _ in range(50):
            run.text("x" * 100)
        return "done"

    done = inline(talk)
    assert len(done.text) == 2000
    assert done.events[-1].data == {"text": "", "truncated": True}
    assert done.result == "done"


def test_models_can_be_played(tmp_path: Path) -> None:
    played = Runtime(config.load(data_dir=tmp_path), providers={"ollama": Fake([Text("It "), Text("scatters")])})
    done = inline(ollama.generate, prompt="why", runtime=played)
    assert done.text == done.result["response"] == "It scatters"


def test_a_function_is_no_actor() -> None:
    with pytest.raises(SetupError, match="no actor"):
        inline(print)  # type: ignore[arg-type] # the point


# — drain —


@pytest.fixture
def here(runtime: Runtime) -> Runtime:
    return runtime


def test_a_queue_is_run_empty_in_order(here: Runtime, jobs: Jobs) -> None:
    for n, priority in enumerate([0, 5, 0]):
        note.submit(x=n, priority=priority)
    done = drain()
    assert ran == [1, 0, 2]
    assert [(job.status, job.result) for job in done] == [("done", "1"), ("done", "0"), ("done", "2")]
    assert [job.attempts for job in done] == [1, 1, 1]
    assert drain() == []
    assert jobs.workers() == [], "it signed off"
    assert threading.current_thread() is threading.main_thread()


def test_it_runs_in_the_calling_thread(here: Runtime) -> None:
    @actor("testing.where")
    def where(payload: Any) -> int:
        return threading.get_ident()

    where.submit()
    (job,) = drain(kinds=["testing.where"])
    assert job.result == str(threading.get_ident())


def test_hundreds_are_run_once_each(here: Runtime) -> None:
    for n in range(300):
        note.submit(x=n)
    assert len(drain()) == 300
    assert ran == list(range(300))


def test_errors_stay_with_their_jobs(here: Runtime) -> None:
    note.submit(x=1, how="fail")
    note.submit(x=2, how="exit", max_attempts=1)
    note.submit(x=3)
    done = drain()
    assert [(job.status, job.error) for job in done] == [
        (Status.ERROR, "x: cannot be"),
        (Status.ERROR, "SystemExit: 3"),
        (Status.DONE, None),
    ]


def test_what_was_put_off_is_left_alone_or_waited_for(here: Runtime, dsn: str) -> None:
    retried = note.submit(x=1, how="retry", max_attempts=2)
    note.submit(x=2, delay_s=0.5)
    assert drain() == []
    assert retried.status is Status.QUEUED
    done = drain(until_empty=True)
    assert sorted((job.status, job.attempts) for job in done) == [("done", 1), ("error", 2)]
    assert sorted(ran) == [1, 1, 2]


def test_finished_jobs_come_in_the_order_of_their_ends(here: Runtime) -> None:
    note.submit(x=1, how="retry", max_attempts=2)
    note.submit(x=2)
    assert [job.status for job in drain(until_empty=True)] == ["done", "error"]
    assert ran == [1, 2, 1]


def test_jobs_that_actors_submit_are_run_too(here: Runtime) -> None:
    note.submit(x=1, how="more")
    assert [job.result for job in drain()] == ["1", "2"]


def test_only_some_kinds(here: Runtime) -> None:
    left = note.submit(x=1)
    order.submit(item="pen")
    assert [job.kind for job in drain(kinds={"testing.order"})] == ["testing.order"]
    assert left.status is Status.QUEUED
    with pytest.raises(SetupError, match=r"'nobody\.here' has no actor"):
        drain(kinds=["nobody.here"])


def test_what_nobody_may_claim_is_not_waited_for(here: Runtime, sql: Connection) -> None:
    note.submit(x=1)
    sql.execute("INSERT INTO llm.paused_queues VALUES ('default')")
    assert drain() == []
    sql.execute("DELETE FROM llm.paused_queues")
    sql.execute("UPDATE llm.jobs SET deadline_at = now() - interval '1 s'")
    assert drain(until_empty=True) == []
    assert ran == []


def test_a_limit_is_kept_and_waited_for(here: Runtime, sql: Connection) -> None:
    sql.execute("INSERT INTO llm.limits (kind, rate, per_s) VALUES ('testing.note', 5, 1)")
    for n in range(3):
        note.submit(x=n)
    began = time.monotonic()
    assert len(drain()) == 3
    assert time.monotonic() - began > 0.35


def test_time_is_up(here: Runtime, dsn: str) -> None:
    handle = note.submit(x=1, how="hang")
    with pytest.raises(WaitTimeout, match=r"after 0\.5 s"):
        drain(timeout_s=0.5)
    found = whole(dsn, handle.id)
    assert (found["job"]["status"], found["job"]["releases"]) == ("queued", 1), "given back"


def test_ctrl_c_gives_the_job_back(here: Runtime, jobs: Jobs) -> None:
    handle = note.submit(x=1, how="interrupt")
    with pytest.raises(KeyboardInterrupt):
        drain()
    assert handle.status is Status.QUEUED
    assert [one.reason for one in jobs.attempts(handle.id)] == ["released"]
    with pytest.raises(RuntimeError, match="no job is running"):
        current()


def test_the_lease_is_real(here: Runtime) -> None:
    """Somebody else's from the middle of it on: its result is refused, and it is none of ours."""
    handle = note.submit(x=1, how="steal")
    assert drain() == []
    assert handle.status is Status.RUNNING


def test_a_middleware_of_dramatiqs_works_here(here: Runtime) -> None:
    class Counting(Middleware):
        def after_process_message(self, broker: Any, message: Any, **how: Any) -> None:
            ran.append(message.actor_name)

    counting = Counting()
    broker.add_middleware(counting)
    try:
        note.submit(x=1)
        drain()
    finally:
        broker.middleware.remove(counting)
    assert ran == [1, "testing.note"]


# — the example, as a user would run it —


def test_the_example_works_as_it_stands(tmp_path: Path) -> None:
    text = (testing.__doc__ or "").partition("\n\n")[2]
    (tmp_path / "test_greet.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."],
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 passed" in ended.stdout
