"""Actors at work: real Dramatiq threads, real leases, from the decorator to the result."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from dramatiq.middleware import SkipMessage
from pydantic import BaseModel

from llm_mcp import JobHandle, Run, actor, config
from llm_mcp.actors import echo
from llm_mcp.errors import InvalidInput, JobFailed, KeyReused, ProviderError, SetupError
from llm_mcp.job import Job, Reason, Status
from llm_mcp.jobs import Jobs
from llm_mcp.kinds import KINDS, Kind
from llm_mcp.runtime import Runtime
from llm_mcp.store.pool import connect
from llm_mcp.worker import Worker
from tests.integration.rows import whole
from tests.waiting import until

# — actors as users write them —


class Order(BaseModel):
    item: str
    count: int = 1


@actor("test.order", payload=Order, queue="shop", max_attempts=2)
def order(payload: Order) -> dict[str, Any]:
    """Take an order."""
    return {"bought": [payload.item] * payload.count}


@actor("test.story")
def story(payload: Any, run: Run) -> str:
    run.progress(0.0, "thinking")
    for word in payload["words"]:
        run.text(word)
    run.usage(words=len(payload["words"]))
    run.metrics["model"] = "me"
    return " ".join(payload["words"])


@actor("test.flaky")
def flaky(payload: Any, run: Run) -> int:
    if run.lease.attempt < payload["good_at"]:
        run.text(f"try {run.lease.attempt}")
        raise ProviderError("hiccup", retryable=True)
    run.text("fine")
    return run.lease.attempt


begun = threading.Semaphore(0)


@actor("test.endless")
def endless(payload: Any, run: Run) -> None:
    """Run until it must stop."""
    begun.release()
    while not threading.Event().wait(0.01):
        run.check()


class Odd:
    def __str__(self) -> str:
        return "an odd thing"


OUTCOMES: dict[str, Any] = {
    "nothing": None,
    "odd": [Odd()],
    "model": Order(item="pen"),
    "nan": {"a": float("nan"), "b": "x\x00\ud800"},
    "bytes": {"a": b"x"},
}


@actor("test.outcome", max_attempts=1)
def outcome(payload: Any) -> Any:
    match payload:
        case "skip":
            raise SkipMessage("not today")
        case "exit":
            raise SystemExit(4)
        case "boom":
            raise ZeroDivisionError("division by zero")
        case "refuse":
            raise InvalidInput("cannot be sold", field="payload.item")
    return OUTCOMES[payload]


@pytest.fixture(autouse=True)
def _here(runtime: Runtime) -> None:
    """Actors submit to this test's database."""


@pytest.fixture(scope="module")
def worker(own: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for all of these tests."""
    folder = tmp_path_factory.mktemp("worker")
    runtime = Runtime(config.load(db_dsn=own, data_dir=folder, lease_s=3.0, reap_s=0.1, poll_s=0.2))
    made = Worker(runtime, threads=4)
    made.start()
    yield made
    made.drain(5)
    runtime.close()


def job_of(handle: JobHandle, status: Status = Status.DONE) -> Job:
    """Wait for the job's end."""
    found = until(lambda: (now := handle.job()).status.final and now)
    assert isinstance(found, Job)
    assert found.status is status, found.error
    return found


# — what one decorator gives —


def test_a_kind_from_submit_to_result(worker: Worker) -> None:
    handle = order.submit(item="pen", count=2)
    assert handle.wait(timeout=20) == {"bought": ["pen", "pen"]}
    job = handle.job()
    assert (job.kind, job.queue, job.max_attempts, job.source) == ("test.order", "shop", 2, "python")
    assert str(handle.id) in repr(handle)


def test_the_same_row_by_send(worker: Worker, jobs: Jobs) -> None:
    sent = order.send(item="cup")
    assert jobs.wait(UUID(sent.message_id), timeout_s=20).result == '{"bought":["cup"]}'
    began_at = time.monotonic()
    sent = order.send_with_options(kwargs={"item": "late"}, delay=timedelta(milliseconds=600), priority=3)
    job = jobs.get(UUID(sent.message_id))
    assert (job.status, job.priority) == (Status.QUEUED, 3)
    jobs.wait(UUID(sent.message_id), timeout_s=20)
    assert time.monotonic() - began_at >= 0.6


def test_a_payload_may_be_an_object_its_fields_or_both(runtime: Runtime) -> None:
    for handle, stored in (
        (order.submit({"item": "a"}), '{"item":"a"}'),
        (order.submit({"item": "a"}, count=3), '{"item":"a","count":3}'),
        (story.submit([1]), "[1]"),
        (story.submit(), "{}"),
        (story.submit({"priority": 9}, priority=1), '{"priority":9}'),
    ):
        assert handle.job().payload == stored
    with pytest.raises(InvalidInput, match="only an object"):
        order.submit([1], item="a")


def test_a_payload_that_does_not_fit_is_refused_at_the_door(runtime: Runtime, jobs: Jobs) -> None:
    with pytest.raises(InvalidInput) as caught:
        order.submit(item=5)
    assert caught.value.field == "payload.item"
    with pytest.raises(InvalidInput):
        order.send(count=1)
    assert jobs.page() == []


def test_a_key_makes_a_submit_repeatable(worker: Worker) -> None:
    handles = [order.submit(item="pen", idempotency_key="k") for _ in range(3)]
    assert len({handle.id for handle in handles}) == 1
    assert handles[2].wait(timeout=20) == {"bought": ["pen"]}
    assert order.submit(item="pen", idempotency_key="k").wait(timeout=5) == {"bought": ["pen"]}
    with pytest.raises(KeyReused):
        order.submit(item="cup", idempotency_key="k")


def test_a_stream_as_it_comes_and_the_whole_of_it(worker: Worker, dsn: str) -> None:
    handle = story.submit(words=["once", "upon", "a", "time"])
    events = list(handle.stream())
    assert "".join(event.data["text"] for event in events if event.type == "delta") == "onceuponatime"
    assert events[0].type == "progress"
    assert events[-1].data == {"words": 4}
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert handle.wait(timeout=5) == "once upon a time"
    (attempt,) = whole(dsn, handle.id)["attempts"]
    assert '"ttft_ms":' in attempt["metrics"]
    assert '"model":"me"' in attempt["metrics"]


def test_a_retry_begins_the_stream_anew(worker: Worker, jobs: Jobs) -> None:
    handle = flaky.submit(good_at=2)
    told = [(event.type, event.data.get("text")) for event in handle.stream()]
    assert told[-2:] == [("reset", None), ("delta", "fine")]
    assert handle.wait(timeout=20) == 2
    assert [(a.attempt, a.status, a.error) for a in jobs.attempts(handle.id)] == [
        (1, "error", "hiccup"),
        (2, "done", None),
    ]
    assert handle.job().error == "hiccup"


def test_tries_end(worker: Worker, jobs: Jobs) -> None:
    handle = flaky.submit({"good_at": 9}, max_attempts=2)
    with pytest.raises(JobFailed, match="hiccup") as failed:
        handle.wait(timeout=30)
    assert failed.value.reason == "failed"
    assert len(jobs.attempts(handle.id)) == 2


def test_a_function_stays_a_function(runtime: Runtime, jobs: Jobs) -> None:
    """For unit tests, and for one actor that uses another: called with arguments it is what was decorated."""
    assert order(Order(item="pen", count=2)) == {"bought": ["pen", "pen"]}
    assert order(payload=Order(item="pen")) == {"bought": ["pen"]}
    assert order.__doc__ == "Take an order."
    assert repr(order) == "KindActor(test.order)"
    assert jobs.page() == []
    with pytest.raises(RuntimeError, match="no job is running"):
        order()


def test_what_cannot_be_an_actor_is_told_at_once() -> None:
    def plain(payload: Any) -> None: ...
    async def coroutine(payload: Any) -> None: ...
    def nothing() -> None: ...
    def three(payload: Any, run: Run, more: int) -> None: ...
    def keyword(payload: Any, *, more: int) -> None: ...

    for wrong in (coroutine, nothing, three, keyword):
        with pytest.raises(SetupError, match=r"test\.wrong"):
            actor("test.wrong")(wrong)
    assert KINDS.get("test.wrong") is None
    with pytest.raises(SetupError, match="has an actor already"):
        actor("test.order", payload=Order, queue="shop", max_attempts=2)(plain)
    KINDS.add(Kind("test.known", Order))
    with pytest.raises(SetupError, match="registered twice"):
        actor("test.known")(plain)
    with pytest.raises(SetupError, match="blank"):
        actor(" ")(plain)


# — how it can end —


@pytest.mark.parametrize(
    ("what", "result"),
    [
        ("nothing", "null"),
        ("odd", '["an odd thing"]'),
        ("model", '{"item":"pen","count":1}'),
        ("nan", '{"a":null,"b":"x\ufffd\ufffd"}'),
        ("bytes", """{"a":"b'x'"}"""),
        ("skip", "null"),
    ],
)
def test_whatever_comes_back_is_a_result(worker: Worker, what: str, result: str) -> None:
    assert job_of(outcome.submit(what)).result == result


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("boom", "ZeroDivisionError: division by zero"),
        ("exit", "SystemExit: 4"),
        ("refuse", "payload.item: cannot be sold"),
    ],
)
def test_whatever_is_raised_is_an_error(worker: Worker, what: str, error: str) -> None:
    job = job_of(outcome.submit(what), Status.ERROR)
    assert (job.reason, job.error, job.result) == (Reason.FAILED, error, None)
    assert outcome.submit("nothing").wait(timeout=20) is None  # the thread lives on


def test_a_payload_from_plain_sql_is_checked_at_the_claim(worker: Worker, jobs: Jobs, dsn: str) -> None:
    with connect(dsn) as conn:
        fits = conn.execute("""SELECT llm.submit('test.order', '{"item": "pen"}') AS id""").fetchone()
        bad = conn.execute("""SELECT llm.submit('test.order', '{"item": 7}', max_attempts => 5) AS id""").fetchone()
    assert fits is not None
    assert bad is not None
    assert jobs.wait(fits["id"], timeout_s=20).result == '{"bought":["pen"]}'
    job = jobs.wait(bad["id"], timeout_s=20)
    assert (job.status, job.reason, job.attempts) == (Status.ERROR, Reason.FAILED, 1)
    assert job.error == "payload.item: test.order: Input should be a valid string"


@pytest.mark.parametrize(
    ("poison", "says"),
    [
        ("{nonsense", "payload: not JSON"),
        ("[" * 500 + "]" * 500, "nested deeper than 64"),
        ('{"a": NaN}', "payload.a: number out of range"),
        (r'"\u0000"', r"payload: U+0000 is not allowed"),
    ],
)
def test_a_row_written_past_every_door_ends_in_an_error(
    worker: Worker, jobs: Jobs, dsn: str, poison: str, says: str
) -> None:
    with connect(dsn) as conn:
        row = conn.execute(
            "INSERT INTO llm.jobs (id, kind, payload) VALUES (llm.new_id(), 'echo', %s) RETURNING id", (poison,)
        ).fetchone()
    assert row is not None
    job = jobs.wait(row["id"], timeout_s=20)
    assert (job.status, job.attempts) == (Status.ERROR, 1)
    assert says in (job.error or "")
    assert echo.echo.submit({"n": 1}).wait(timeout=20) == {"ok": True, "echo": {"n": 1}}


def test_a_cancelled_job_stops_at_its_next_check(worker: Worker) -> None:
    handle = endless.submit()
    assert begun.acquire(timeout=20)
    began_at = time.monotonic()
    handle.cancel()
    with pytest.raises(JobFailed) as failed:
        handle.wait(timeout=5)
    assert failed.value.reason == "cancelled"
    assert worker.keeper.wait_idle(5)
    assert time.monotonic() - began_at < 3


def test_a_deadline_stops_the_work(worker: Worker) -> None:
    handle = endless.submit(deadline_at=datetime.now(UTC) + timedelta(seconds=0.7))
    assert begun.acquire(timeout=20)
    job = job_of(handle, Status.ERROR)
    assert job.reason is Reason.DEADLINE_EXCEEDED
    assert worker.keeper.wait_idle(5)
