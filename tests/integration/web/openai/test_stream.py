"""Chats as streams: what clients of the dialect rely on, and every way a stream can end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from llm_mcp.errors import ProviderError
from llm_mcp.events import Event
from llm_mcp.jobs import Jobs
from llm_mcp.providers.fake import Fail, Fake, Pause, Text, Thinking, ToolCall, Used
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.integration.web.client import Client
from tests.integration.web.openai.conftest import HI, Play
from tests.integration.web.openai.reading import chunks, deltas, failed
from tests.integration.web.played import Player
from tests.waiting import until


def test_a_stream_says_who_speaks_then_what_then_why_it_ended(play: Play) -> None:
    stage = play([Thinking("hm"), Text("Hel"), Text("lo"), Used(5, 2)])
    answer = stage.chat(stream=True)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["X-Accel-Buffering"] == "no"
    found = chunks(answer.text)
    job_id = UUID(answer.headers["x-llm-mcp-job"])
    assert {chunk["id"] for chunk in found} == {f"chatcmpl-{job_id.hex}"}
    assert {(chunk["object"], chunk["model"]) for chunk in found} == {("chat.completion.chunk", "play:latest")}
    assert not any("usage" in chunk for chunk in found)
    said = deltas(found)
    assert said[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("reasoning_content", "") for delta in said) == "hm"
    assert "".join(delta.get("content", "") for delta in said) == "Hello"
    assert said[-1] == {}
    assert [chunk["choices"][0]["finish_reason"] for chunk in found] == [None] * (len(found) - 1) + ["stop"]


def test_usage_comes_last_and_without_choices_when_it_was_asked_for(play: Play) -> None:
    answer = play([Text("a"), Used(5, 2)]).chat(stream=True, stream_options={"include_usage": True})
    *others, last = chunks(answer.text)
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert all(chunk["usage"] is None for chunk in others)


def test_calls_of_tools_stream_with_index_id_name_and_arguments(play: Play) -> None:
    stage = play([Text("well"), ToolCall("look", {"at": "sky"}), ToolCall("look", id="call_2")])
    answer = stage.chat(stream=True)
    found = chunks(answer.text)
    calls = [call for delta in deltas(found) for call in delta.get("tool_calls", [])]
    assert [(call["index"], call["type"], call["function"]["name"]) for call in calls] == [
        (0, "function", "look"),
        (1, "function", "look"),
    ]
    assert [call["function"]["arguments"] for call in calls] == ['{"at":"sky"}', "{}"]
    assert calls[0]["id"].startswith("call_")
    assert calls[1]["id"] == "call_2"
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"
    job_id = UUID(answer.headers["x-llm-mcp-job"])
    events = [item.data for item in stage.jobs.follow(job_id) if isinstance(item, Event)]
    assert [call for data in events for call in data.get("tool_calls", [])] == calls  # they came as they were made


def test_log_probabilities_stay_with_their_text(play: Play) -> None:
    steps = [Text(word, [{"token": word, "logprob": -1.0}]) for word in ("a", "b", "c")]
    found = chunks(play(steps).chat(stream=True, logprobs=True).text)
    told = [
        (chunk["choices"][0]["delta"]["content"], [token["token"] for token in logprobs["content"]])
        for chunk in found
        if (logprobs := chunk["choices"][0]["logprobs"])
    ]
    assert told == [("a", ["a"]), ("b", ["b"]), ("c", ["c"])]


def test_what_a_stream_over_its_bounds_left_out_comes_at_its_end(play: Play) -> None:
    words = [f"word{n} " for n in range(600)]
    stage = play([Text(word) for word in words], max_stream_bytes=1024)
    found = chunks(stage.chat(stream=True).text)
    assert "".join(delta.get("content", "") for delta in deltas(found)) == "".join(words)


def test_an_answer_without_a_word_is_a_stream_all_the_same(play: Play) -> None:
    found = chunks(play([Used(1, 0)]).chat(stream=True).text)
    assert deltas(found) == [{"role": "assistant", "content": ""}, {}]
    assert found[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_try_that_failed_before_its_first_word_is_not_seen(play: Play) -> None:
    busy = ProviderError("busy", retryable=True, code="overloaded", status=503)
    stage = play([Fail(busy)], [Text("second try")])
    answer = stage.chat(stream=True)
    assert "".join(delta.get("content", "") for delta in deltas(chunks(answer.text))) == "second try"
    assert stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"])).attempts == 2


def test_what_fails_before_the_first_word_has_a_status_of_its_own(play: Play) -> None:
    refused = ProviderError("fake answered 400: no", retryable=False, code="bad_request", status=400)
    stage = play([Fail(refused)])
    answer = stage.chat(stream=True)
    assert answer.status_code == 400
    assert stage.client.application.extensions["streams"].open == 0
    assert answer.json["error"] == {
        "message": "fake answered 400: no",
        "type": "invalid_request_error",
        "param": None,
        "code": "bad_request",
    }
    assert answer.headers["x-should-retry"] == "false"
    UUID(answer.headers["x-llm-mcp-job"])


def test_what_fails_after_it_ends_the_stream_with_an_error(play: Play) -> None:
    broken = ProviderError("fake: the stream ended", retryable=False, code="broken_stream")
    answer = play([Text("Hel"), Fail(broken)]).chat(stream=True)
    assert answer.status_code == 200
    found, error = failed(answer.text)
    assert "".join(delta.get("content", "") for delta in deltas(found)) == "Hel"
    assert (error["type"], error["code"]) == ("server_error", "ollama_chat_failed")
    assert "[DONE]" not in answer.text


def test_words_that_were_sent_cannot_be_taken_back(play: Play) -> None:
    broken = ProviderError("fake: the stream ended", retryable=True, code="broken_stream")
    stage = play([Text("Hel"), Fail(broken)], [Text("Hello")])
    answer = stage.chat(stream=True)
    found, error = failed(answer.text)
    job_id = answer.headers["x-llm-mcp-job"]
    assert "".join(delta.get("content", "") for delta in deltas(found)) == "Hel"
    assert error["code"] == "attempt_lost"
    assert job_id in error["message"]
    assert stage.jobs.wait(UUID(job_id), timeout_s=20).attempts == 2


def test_the_same_key_tells_the_same_stream_again(play: Play) -> None:
    stage = play([Text("one")], [Text("two")])
    first = stage.chat(stream=True, headers={"Idempotency-Key": "k"})
    again = stage.chat(stream=True, headers={"Idempotency-Key": "k"})
    assert chunks(first.text) == chunks(again.text)


def test_a_stream_without_a_worker_ends_in_a_time_out_naming_the_job(runtime: Runtime) -> None:
    answer = door(runtime, call_timeout_s=0.4).post(
        "/v1/chat/completions", json={"model": "play", "messages": HI, "stream": True}
    )
    assert (answer.status_code, answer.json["error"]["code"]) == (504, "call_timeout")
    assert answer.headers["x-should-retry"] == "false"
    job_id = answer.headers["x-llm-mcp-job"]
    assert job_id in answer.json["error"]["message"]
    assert Jobs(runtime).get(UUID(job_id)).status == "queued"


def door(runtime: Runtime, **changed: Any) -> Client:
    """Return a client of a door with these settings whose model nobody runs."""
    runtime.settings = runtime.settings.model_copy(update=changed)
    runtime._providers["ollama"] = Fake(models=["play:latest"])
    return Client(create_app(runtime))


@dataclass(frozen=True)
class Streaming:
    """A stream that has begun: its door, its job's id, and its blocks as they come."""

    client: Client
    job_id: str
    blocks: Iterator[bytes]


@pytest.fixture
def streaming(runtime: Runtime) -> Iterator[Callable[[], Streaming]]:
    """Begin a stream whose worker the test plays."""
    client = door(runtime)
    pool = ThreadPoolExecutor(1)

    def begin() -> Streaming:
        body = {"model": "play", "messages": HI, "stream": True}
        asking = pool.submit(client.post, "/v1/chat/completions", json=body, buffered=False)
        (job,) = until(lambda: [job for job in Jobs(runtime).page() if job.status == "queued"])

        def blocks() -> Iterator[bytes]:
            yield from asking.result(20).response

        return Streaming(client, str(job.id), blocks())

    yield begin
    pool.shutdown()


def test_words_are_sent_as_they_come(streaming: Callable[[], Streaming], player: Player) -> None:
    stream = streaming()
    job_id, blocks = stream.job_id, stream.blocks
    attempt = player.claim(job_id, "ollama.chat")
    attempt.say("Hel")
    assert b'"role":"assistant"' in (first := next(blocks))
    assert b'"content":"Hel"' in first
    attempt.say("lo")
    assert b'"content":"lo"' in next(blocks)
    attempt.done({"response": "Hello", "data": {"done_reason": "length"}})
    last = next(blocks)
    assert b'"finish_reason":"length"' in last
    assert last.endswith(b"data: [DONE]\n\n")


def test_a_lease_that_is_lost_after_the_first_word_is_told(streaming: Callable[[], Streaming], player: Player) -> None:
    stream = streaming()
    job_id, blocks = stream.job_id, stream.blocks
    attempt = player.claim(job_id, "ollama.chat")
    attempt.say("Hel")
    assert b'"content":"Hel"' in next(blocks)
    attempt.fail("it went away")
    last = next(blocks)
    assert b"attempt_lost" in last
    assert job_id.encode() in last
    with pytest.raises(StopIteration):
        next(blocks)


def test_a_job_that_is_cancelled_ends_its_stream(
    streaming: Callable[[], Streaming], player: Player, runtime: Runtime
) -> None:
    stream = streaming()
    job_id, blocks = stream.job_id, stream.blocks
    player.claim(job_id, "ollama.chat").say("Hel")
    assert b'"content":"Hel"' in next(blocks)
    Jobs(runtime).cancel(UUID(job_id))
    assert b'"code":"cancelled"' in next(blocks)


def test_a_process_that_is_to_stop_says_where_the_job_goes_on(
    streaming: Callable[[], Streaming], player: Player
) -> None:
    stream = streaming()
    job_id, blocks = stream.job_id, stream.blocks
    player.claim(job_id, "ollama.chat").say("Hel")
    assert b'"content":"Hel"' in next(blocks)
    stream.client.application.extensions["streams"].draining.set()
    last = next(blocks)
    assert b'"code":"server_draining"' in last
    assert job_id.encode() in last


def test_two_hundred_streams_at_once(play: Play) -> None:
    gate = threading.Event()
    stage = play([Text("Hel"), Pause(until=gate), Text("lo")], worker_threads=4)

    def one() -> str:
        answer = stage.client.another().post(
            "/v1/chat/completions", json={"model": "play", "messages": HI, "stream": True}
        )
        return "".join(delta.get("content", "") for delta in deltas(chunks(answer.text)))

    with ThreadPoolExecutor(200) as pool:
        answers = [pool.submit(one) for _ in range(200)]
        until(lambda: len(stage.model.calls) >= 4)
        gate.set()
        assert {answer.result(60) for answer in answers} == {"Hello"}
