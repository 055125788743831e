"""Streams of workers in other languages: seen as those of our own are, fenced and bounded like them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from llm_mcp.events import Event
from llm_mcp.job import Job
from llm_mcp.jobs import Jobs
from llm_mcp.remote import Remote
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.integration.web.client import Client
from tests.integration.web.workers.calls import Foreign


@pytest.fixture
def worker(client: Client) -> Foreign:
    return Foreign(client, "streams")


def told(jobs: Jobs, claimed: Any) -> list[tuple[int, str, Any]]:
    """Return the events of a finished job's stream."""
    items = jobs.follow(UUID(claimed["job"]["id"]))
    return [(item.seq, item.type, item.data) for item in items if isinstance(item, Event)]


def deltas(first: int, *texts: str) -> list[dict[str, Any]]:
    return [{"seq": seq, "type": "delta", "data": {"text": text}} for seq, text in enumerate(texts, first)]


def test_a_stream_is_followed_while_it_grows(worker: Foreign, jobs: Jobs, kind: str) -> None:
    claimed = worker.begin(kind)
    stream = jobs.follow(UUID(claimed["job"]["id"]))
    first = next(stream)
    assert isinstance(first, Job)
    assert worker.say("events", claimed, events=deltas(1, "Hel", "lo")) == (200, {"ok": True, "last": 2})
    pieces = [next(stream) for _ in range(2)]
    assert [piece.data for piece in pieces if isinstance(piece, Event)] == [{"text": "Hel"}, {"text": "lo"}]
    more = [
        {"seq": 3, "type": "progress", "data": {"fraction": 0.5, "note": "half"}},
        {"seq": 4, "type": "usage", "data": {"tokens_in": 2}},
        {"seq": 5, "type": "delta", "data": {"tool_calls": [{"index": 0}]}},
    ]
    assert worker.say("events", claimed, events=more)[1]["last"] == 5
    worker.say("complete", claimed, result={"ok": True})
    rest = list(stream)
    assert [item.type for item in rest if isinstance(item, Event)] == ["progress", "usage", "delta"]
    assert isinstance(rest[-1], Job)
    assert rest[-1].status == "done"


def test_a_batch_that_is_repeated_changes_nothing(worker: Foreign, jobs: Jobs, kind: str) -> None:
    claimed = worker.begin(kind)
    for batch in (deltas(1, "a", "b"), deltas(1, "a", "b"), deltas(1, "a", "b", "c")):
        assert worker.say("events", claimed, events=batch)[0] == 200
    worker.say("complete", claimed)
    assert told(jobs, claimed) == [(n, "delta", {"text": text}) for n, text in enumerate("abc", 1)]


def test_what_comes_after_a_higher_number_is_passed_over(worker: Foreign, jobs: Jobs, kind: str) -> None:
    """Whoever reads has gone on past it: it would be in the stream for some and not for others."""
    claimed = worker.begin(kind)
    assert worker.say("events", claimed, events=deltas(5, "five"))[1]["last"] == 5
    assert worker.say("events", claimed, events=deltas(3, "three"))[1]["last"] == 5
    worker.say("complete", claimed)
    assert told(jobs, claimed) == [(5, "delta", {"text": "five"})]


def test_another_process_knows_where_the_stream_stands(worker: Foreign, jobs: Jobs, kind: str, settings: Any) -> None:
    claimed = worker.begin(kind)
    worker.say("events", claimed, events=deltas(1, "a", "b"))
    other = Runtime(settings)
    try:
        elsewhere = Foreign(Client(create_app(other)), worker.worker_id)
        assert elsewhere.say("events", claimed, events=deltas(2, "b", "c"))[1] == {"ok": True, "last": 3}
    finally:
        other.close()
    worker.say("complete", claimed)
    assert [data["text"] for _, _, data in told(jobs, claimed)] == ["a", "b", "c"]


def test_half_a_character_is_half_a_character(worker: Foreign, jobs: Jobs, kind: str) -> None:
    claimed = worker.begin(kind)
    body = (
        f'{{"worker_id": "streams", "job_id": "{claimed["job"]["id"]}", "events":'
        ' [{"seq": 1, "type": "delta", "data": {"text": "a\\ud83d\\u0000", "x": NaN}}]}'
    )
    assert worker.post("events", body)[0] == 200
    worker.say("complete", claimed)
    assert told(jobs, claimed) == [(1, "delta", {"text": "a\ufffd\ufffd", "x": None})]


@pytest.mark.parametrize("bound", ["bytes", "events"])
def test_a_stream_over_its_bounds_ends_and_says_so(runtime: Runtime, jobs: Jobs, kind: str, bound: str) -> None:
    limit = {"max_stream_bytes": 1100} if bound == "bytes" else {"max_stream_events": 10}
    runtime.settings = runtime.settings.model_copy(update=limit)
    worker = Foreign(Client(create_app(runtime)), "long")
    claimed = worker.begin(kind)
    answers = [worker.say("events", claimed, events=deltas(1 + 4 * n, *["x" * 90] * 4))[1] for n in range(4)]
    assert [answer.get("truncated", False) for answer in answers] == [False, False, True, True]
    assert worker.say("complete", claimed, result="whole") == (200, {"ok": True})
    events = told(jobs, claimed)
    assert events[-1][1:] == ("delta", {"text": "", "truncated": True})
    assert len(events) <= 11
    assert worker.job(claimed)["result"] == "whole"


def test_a_new_attempt_begins_a_new_stream(worker: Foreign, jobs: Jobs, kind: str) -> None:
    claimed = worker.begin(kind)
    worker.say("events", claimed, events=deltas(1, "old"))
    jobs.requeue([UUID(claimed["job"]["id"])])
    again = worker.claim(kind)
    assert worker.say("events", claimed, events=deltas(2, "late"))[0] == 409
    worker.say("events", again, events=deltas(1, "new"))
    worker.say("complete", again)
    assert told(jobs, claimed) == [(1, "delta", {"text": "new"})]


def test_nothing_is_kept_of_a_stream_that_ended(worker: Foreign, runtime: Runtime, kind: str) -> None:
    for verb in ("complete", "fail"):
        claimed = worker.begin(kind, max_attempts=1)
        worker.say("events", claimed, events=deltas(1, "a"))
        worker.say(verb, claimed)
    assert not Remote.of(runtime)._streams._tallies
