"""What users put around actors, with a real worker: order, results, errors, retries, cuts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from llm_mcp import JobHandle, Run, actor, around, surroundings
from llm_mcp.errors import Cut, InvalidInput, JobFailed, ProviderError, SetupError
from llm_mcp.job import Reason, Status
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.surroundings import Call
from llm_mcp.worker import Worker
from tests.integration.rows import add, whole
from tests.waiting import until

seen: list[Any] = []
begun = threading.Semaphore(0)


class Sum(BaseModel):
    a: int
    b: int = 1


@actor("around.sum", payload=Sum, max_attempts=2)
def total(payload: Sum, run: Run) -> int:
    """Add up."""
    seen.append("actor")
    run.text("so")
    if payload.a < 0:
        raise ProviderError("too cold", retryable=True)
    return payload.a + payload.b


@actor("around.other")
def other(payload: Any) -> str:
    """Another kind, which takes no run."""
    return f"other {payload['x']}"


@actor("around.endless")
def endless(payload: Any, run: Run) -> None:
    """Run until it must stop."""
    begun.release()
    while not threading.Event().wait(0.01):
        run.check()


@pytest.fixture(autouse=True)
def _worker(dsn: str, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(surroundings, "_surroundings", [])
    seen.clear()
    worker = Worker(Runtime(runtime.settings), threads=2)
    worker.start()
    yield
    worker.drain(5)
    worker.runtime.close()


def noted(name: str) -> Callable[[Run, Call], Any]:
    """Make one that notes when it was entered and left."""

    def note(run: Run, call: Call) -> Any:
        seen.append(f"{name} in")
        try:
            return call()
        finally:
            seen.append(f"{name} out")

    return note


def test_the_first_registered_is_outermost() -> None:
    for name in ("one", "two", "three"):
        around(noted(name))
    assert total.submit(a=1, b=2).wait(timeout=20) == 3
    assert seen == ["one in", "two in", "three in", "actor", "three out", "two out", "one out"]


def test_it_sees_the_attempt_and_adds_figures(dsn: str) -> None:
    @around
    def look(run: Run, call: Call) -> Any:
        seen.append((run.lease.kind, run.lease.attempt, run.payload, run.result))
        run.metrics["looked"] = True
        result = call()
        seen.append(result)
        return result

    handle = total.submit(a=1)
    handle.wait(timeout=20)
    assert seen == [("around.sum", 1, Sum(a=1, b=1), None), "actor", 2]
    (attempt,) = whole(dsn, handle.id)["attempts"]
    assert '"looked":true' in attempt["metrics"]


def test_it_may_change_the_result() -> None:
    around(lambda run, call: {"result": call(), "by": "me"})
    assert other.submit(x=7).wait(timeout=20) == {"result": "other 7", "by": "me"}


def test_it_may_answer_itself() -> None:
    around(lambda run, call: "from the cache")
    assert total.submit(a=1).wait(timeout=20) == "from the cache"
    assert seen == []


def test_it_may_call_again() -> None:
    @around
    def again(run: Run, call: Call) -> Any:
        try:
            return call()
        except ProviderError:
            run.payload.a = 5  # the actor is given this very value
            return call()

    handle = total.submit(a=-1)
    assert handle.wait(timeout=20) == 6
    assert handle.job().attempts == 1
    assert "".join(event.data["text"] for event in handle.stream()) == "soso"


def test_it_sees_every_attempt_and_every_error() -> None:
    @around
    def note(run: Run, call: Call) -> Any:
        try:
            return call()
        except ProviderError as error:
            seen.append((run.lease.attempt, str(error)))
            raise

    handle = total.submit(a=-1, max_attempts=2)
    with pytest.raises(JobFailed, match="too cold"):
        handle.wait(timeout=20)
    assert seen == ["actor", (1, "too cold"), "actor", (2, "too cold")]


@pytest.mark.parametrize(
    ("error", "attempts"), [(InvalidInput("not here"), 1), (OSError("not now"), 2), (SystemExit(3), 2)]
)
def test_what_it_raises_fails_the_attempt_as_if_the_actor_had(error: BaseException, attempts: int) -> None:
    @around
    def refuse(run: Run, call: Call) -> Any:
        call()
        raise error

    handle = total.submit(a=1)
    with pytest.raises(JobFailed, match=str(error)) as failed:
        handle.wait(timeout=20)
    assert failed.value.reason == "failed"
    assert handle.job().attempts == attempts


def test_what_was_swallowed_is_a_result() -> None:
    @around
    def forgive(run: Run, call: Call) -> Any:
        try:
            return call()
        except ProviderError:
            return "never mind"

    assert total.submit(a=-1).wait(timeout=20) == "never mind"


def test_a_cut_comes_through_and_cannot_be_swallowed() -> None:
    @around
    def swallow(run: Run, call: Call) -> Any:
        try:
            return call()
        except Cut as cut:
            seen.append(str(cut))
            return "never mind"

    handle = endless.submit()
    assert begun.acquire(timeout=20)
    handle.cancel()
    until(lambda: seen)
    assert seen == ["lease_lost"]
    assert other.submit(x=1).wait(timeout=20) == "other 1", "the worker goes on"
    job = handle.job()
    assert (job.status, job.reason, job.result) == (Status.ERROR, Reason.CANCELLED, None)


def test_a_payload_that_does_not_fit_is_never_run(runtime: Runtime) -> None:
    around(noted("it"))
    past_our_doors = add(runtime.db, "around.sum", "{}")
    with pytest.raises(JobFailed, match=r"payload\.a"):
        JobHandle(Jobs(runtime), past_our_doors).wait(timeout=20)
    assert seen == []


def test_only_for_some_kinds() -> None:
    @around(kinds={"around.o*"})
    def shout(run: Run, call: Call) -> Any:
        return call().upper()

    around(lambda run, call: call() + 1, kinds="around.sum")
    assert other.submit(x=7).wait(timeout=20) == "OTHER 7"
    assert total.submit(a=1).wait(timeout=20) == 3


def test_registered_twice_is_called_once() -> None:
    note = noted("it")
    assert around(around(note)) is note
    total.submit(a=1).wait(timeout=20)
    assert seen == ["it in", "actor", "it out"]


def _coroutine() -> Any:
    async def work(run: Run, call: Call) -> Any: ...

    return work


def _generator(run: Run, call: Call) -> Any:
    yield call()


@pytest.mark.parametrize(
    ("work", "fault"),
    [
        (_coroutine(), "no coroutine"),
        (_generator, "no generator"),
        (lambda call: call(), "two arguments"),
        ("not callable", "not callable"),
    ],
)
def test_what_cannot_be_called_so_is_refused(work: Any, fault: str) -> None:
    with pytest.raises(SetupError, match=fault):
        around(work)
    assert surroundings._surroundings == []
