"""An actor that says too much: its stream ends, its answer does not, and who watches is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from llm_mcp import Event, Job, JobHandle, Run, actor
from llm_mcp.errors import JobFailed
from llm_mcp.job import Status
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store.pool import Connection
from llm_mcp.worker import Worker

BYTES = 20_000
EVENTS = 50


@actor("bounds.chatty", max_attempts=2)
def chatty(payload: Any, run: Run) -> dict[str, Any]:
    """Say it as often as asked, in this way, and answer with all of it."""
    for n in range(payload["times"]):
        match payload["how"]:
            case "text":
                run.text(payload["what"])
            case "both":
                run.text(payload["what"])
                run.thinking("h")
            case "progress":
                run.progress(n / payload["times"], payload["what"])
            case "usage":
                run.usage(seen={"deep": [payload["what"]]})
    if run.lease.attempt < payload.get("good_at", 1):
        raise OSError("once more")
    return {"said": payload["what"] * payload["times"]}


@pytest.fixture(autouse=True)
def _worker(dsn: str, runtime: Runtime) -> Iterator[None]:
    tight = Runtime(
        runtime.settings.model_copy(update={"max_stream_bytes": BYTES, "max_stream_events": EVENTS, "lease_s": 3.0})
    )
    worker = Worker(tight, threads=2)
    worker.start()
    yield
    worker.drain(5)
    tight.close()


def told(handle: JobHandle, jobs: Jobs) -> tuple[list[Event], Job]:
    """Follow a job to its end, and return its events and it."""
    *items, last = jobs.follow(handle.id)
    assert isinstance(last, Job)
    assert last.status is Status.DONE, last.error
    return [item for item in items if isinstance(item, Event)], last


@pytest.mark.parametrize(
    ("how", "what", "times"),
    [
        ("text", "word ", 20_000),
        ("text", "\N{SNOWMAN}" * 1000, 40),
        ("text", "x" * 10_000_000, 1),
        ("both", "word ", 1000),
        ("progress", "", 5000),
        ("progress", "x" * 5000, 10),
        ("usage", "x" * 5000, 10),
    ],
    ids=["long", "not ascii", "at once", "many events", "many steps", "long notes", "deep"],
)
def test_a_stream_ends_at_its_bound_and_the_result_is_whole(
    jobs: Jobs, sql: Connection, how: str, what: str, times: int
) -> None:
    handle = chatty.submit(how=how, what=what, times=times)
    events, job = told(handle, jobs)
    *before, last = events
    assert (last.type, last.data) == ("delta", {"text": "", "truncated": True})
    assert not any("truncated" in event.data for event in before)
    assert job.result is not None
    assert json.loads(job.result) == {"said": what * times}
    assert job.attempts == 1
    assert len(events) <= EVENTS
    size = sum(len(json.dumps(event.data, ensure_ascii=False).encode()) for event in before)
    assert size <= BYTES + 40 * len(events)
    assert what == "x" * 10_000_000 or size > BYTES / 2 or len(events) == EVENTS, "it was not cut short of the bound"


def test_a_stream_within_its_bounds_is_whole(jobs: Jobs) -> None:
    events, _ = told(chatty.submit(how="text", what="x" * 100, times=BYTES // 100), jobs)
    assert "".join(event.data["text"] for event in events) == "x" * BYTES
    assert not any("truncated" in event.data for event in events)


def test_every_attempt_has_a_stream_of_its_own(jobs: Jobs) -> None:
    events, job = told(chatty.submit(how="text", what="x" * 1000, times=30, good_at=2), jobs)
    assert job.attempts == 2
    assert [(event.attempt, event.data) for event in events if "truncated" in event.data][-1][0] == 2
    assert sum(len(event.data.get("text", "")) for event in events if event.attempt == 2) > BYTES / 2


def test_the_result_has_a_bound_of_its_own(jobs: Jobs) -> None:
    handle = chatty.submit(how="text", what="x" * 1_000_000, times=17)
    with pytest.raises(JobFailed, match="the result is over 16777216 bytes"):
        handle.wait(timeout=20)
    assert jobs.get(handle.id).attempts == 1
