"""Responses as streams: the events clients rely on, their numbers, and every way a stream can end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from llm_mcp.dialect.script import GENERATION
from llm_mcp.errors import ProviderError
from llm_mcp.jobs import Jobs
from llm_mcp.providers.fake import Fail, Fake, Pause, Text, Thinking, ToolCall, Used
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.integration.web.client import Client
from tests.integration.web.played import Attempt, Player
from tests.integration.web.responses.conftest import Play, Stage, events


def types(found: list[Any]) -> list[str]:
    """Return what the events are, without `response.`."""
    return [event["type"].removeprefix("response.") for event in found]


def numbers(found: list[Any]) -> list[int]:
    """Return the events' numbers."""
    return [event["sequence_number"] for event in found]


def said(found: list[Any]) -> str:
    """Return the text of the events."""
    return "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")


def test_the_events_of_an_answer(play: Play) -> None:
    steps = [Thinking("hm"), Text("Hello"), ToolCall("look", {"at": "sky"}, id="c1"), Used(5, 2)]
    stage = play(steps)
    answer = stage.create(stream=True)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    found = events(answer.text)
    assert numbers(found) == list(range(len(found)))
    assert types(found) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event["output_index"] for event in found if "output_index" in event] == [0] * 6 + [1] * 6 + [2] * 4
    for added, done in zip(
        (event["item"] for event in found if event["type"].endswith("item.added")),
        (event["item"] for event in found if event["type"].endswith("item.done")),
        strict=True,
    ):
        assert added["id"] == done["id"]
        assert (added["status"], done["status"]) == ("in_progress", "completed")
    last = found[-1]["response"]
    assert last["output"] == [event["item"] for event in found if event["type"].endswith("item.done")]
    assert last["usage"]["total_tokens"] == 7
    assert stage.get(last["id"]) == last
    assert stage.events(last["id"]) == found


def test_thinking_streams_as_the_summary_that_was_asked_for(play: Play) -> None:
    found = events(play([Thinking("hm")]).create(stream=True, reasoning={"summary": "auto"}).text)
    assert types(found)[2:8] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    assert found[-1]["response"]["output"][0]["summary"] == [{"type": "summary_text", "text": "hm"}]


def test_in_the_background_it_is_queued_first(play: Play) -> None:
    found = events(play([Text("a")]).create(stream=True, background=True).text)
    assert types(found)[:3] == ["created", "queued", "in_progress"]
    assert numbers(found) == list(range(len(found)))


def test_what_a_stream_over_its_bounds_left_out_comes_at_its_end(play: Play) -> None:
    words = [f"word{n} " for n in range(600)]
    found = events(play([Text(word) for word in words], max_stream_bytes=1024).create(stream=True).text)
    assert said(found) == "".join(words)
    [text] = [event["text"] for event in found if event["type"] == "response.output_text.done"]
    assert text == "".join(words)


def test_log_probabilities_stay_with_their_text(play: Play) -> None:
    steps = [Text(word, [{"token": word, "logprob": -1.0}]) for word in ("a", "b", "c")]
    found = events(play(steps).create(stream=True, top_logprobs=1).text)
    told = [event["logprobs"][0]["token"] for event in found if event["type"] == "response.output_text.delta"]
    assert told == ["a", "b", "c"]
    assert [token["token"] for token in found[-1]["response"]["output"][0]["content"][0]["logprobs"]] == told


def test_what_fails_ends_the_stream_naming_the_job(play: Play) -> None:
    broken = ProviderError("fake: the stream ended", retryable=False, code="broken_stream")
    answer = play([Text("Hel"), Fail(broken)]).create(stream=True)
    found = events(answer.text)
    assert types(found)[-2:] == ["output_text.delta", "failed"]
    assert numbers(found) == list(range(len(found)))
    response = found[-1]["response"]
    assert (response["status"], response["error"]["code"]) == ("failed", "server_error")
    assert answer.headers["x-llm-mcp-job"] in response["error"]["message"]


def test_a_try_that_failed_before_its_first_word_is_not_seen(play: Play) -> None:
    busy = ProviderError("busy", retryable=True, code="overloaded", status=503)
    stage = play([Fail(busy)], [Text("second try")])
    found = events(stage.create(stream=True).text)
    assert said(found) == "second try"
    assert numbers(found) == list(range(len(found)))
    assert stage.events(found[0]["response"]["id"]) == found


def test_a_stream_without_a_worker_ends_in_a_time_out_naming_the_job(play: Play) -> None:
    answer = play(threads=0, call_timeout_s=0.3).create(stream=True)
    found = events(answer.text)
    assert [event["type"] for event in found] == ["response.created", "response.in_progress", "error"]
    assert (found[-1]["code"], found[-1]["sequence_number"]) == ("call_timeout", 1)
    assert answer.headers["x-llm-mcp-job"] in found[-1]["message"]


def test_the_rest_after_every_event(play: Play) -> None:
    stage = play([Thinking("hm"), Text("Hel"), ToolCall("look", {"at": "sky"}), Text("lo")])
    full = events(stage.create(stream=True, background=True).text)
    name = full[0]["response"]["id"]
    for event in full:
        place = event["sequence_number"]
        assert stage.events(name, place) == full[place + 1 :]
    assert stage.events(name, 10**6) == []


@pytest.mark.parametrize("place", ["-1", "1:2", "x", "1.5", "9" * 30, "\u0661"])
def test_places_that_are_none(play: Play, place: str) -> None:
    stage = play([Text("a")])
    name = stage.create().json["id"]
    answer = stage.client.get(f"/v1/responses/{name}", query_string={"stream": "true", "starting_after": place})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "starting_after")


# — a worker that the test plays —


@pytest.fixture
def door(runtime: Runtime) -> Callable[[], Stage]:
    """A door whose model nobody runs."""

    def make() -> Stage:
        model = Fake(models=["play:latest"])
        runtime._providers["ollama"] = model
        return Stage(Client(create_app(runtime)), Jobs(runtime), model, model)

    return make


def begun(stage: Stage, player: Player, **fields: Any) -> tuple[str, Attempt]:
    """Create a response in the background and begin its first attempt."""
    name = stage.create(background=True, **fields).json["id"]
    return name, player.claim(str(UUID(name.removeprefix("resp_"))), "ollama.chat")


def finish(attempt: Attempt, text: str) -> None:
    """Hand in a result that says this."""
    attempt.done({"response": text, "tokens_in": 1, "tokens_out": 1, "data": {"done_reason": "stop"}})


def live(stage: Stage, name: str, count: int, after: int | None = None) -> list[Any]:
    """Return the next events of a stream that goes on, and hang up."""
    place = "" if after is None else f"&starting_after={after}"
    answer = stage.client.another().get(f"/v1/responses/{name}?stream=true{place}")
    found: list[Any] = []
    pieces = answer.iter_encoded()
    while len(found) < count:
        found += events(next(pieces).decode())
    answer.close()
    return found[:count]


def test_words_that_were_sent_cannot_be_taken_back(door: Callable[[], Stage], player: Player) -> None:
    stage = door()
    name, first = begun(stage, player)
    first.say("Hel")
    seen = live(stage, name, 6)
    assert types(seen)[-1] == "output_text.delta"
    first.fail("broke")
    [lost] = stage.events(name, 5)
    assert (lost["type"], lost["sequence_number"]) == ("response.failed", 6)
    assert str(first.job_id) in lost["response"]["error"]["message"]
    second = player.claim(first.job_id, "ollama.chat")
    second.say("Hello")
    finish(second, "Hello")
    # Whoever has words of the first try is told so for ever; whoever has none is told the second one.
    assert stage.events(name, 5) == [lost]
    whole = stage.events(name)
    assert said(whole) == "Hello"
    assert numbers(whole) == list(range(GENERATION, GENERATION + len(whole)))
    for place, event in enumerate(whole):
        assert stage.events(name, event["sequence_number"]) == whole[place + 1 :]
    rest = stage.events(name, 1)
    assert rest == whole[2:]
    assert whole[-1]["response"] == stage.get(name)


def test_one_who_waits_between_two_tries_gets_the_second_one(door: Callable[[], Stage], player: Player) -> None:
    stage = door()
    name, first = begun(stage, player)
    first.say("Hel")
    first.fail("broke")
    seen = live(stage, name, 2)
    assert types(seen) == ["created", "queued"]
    second = player.claim(first.job_id, "ollama.chat")
    finish(second, "Hello")
    rest = stage.events(name, seen[-1]["sequence_number"])
    assert numbers(seen + rest) == list(range(GENERATION, GENERATION + len(seen + rest)))
    assert said(rest) == "Hello"


def test_one_that_is_cancelled_between_two_tries_ends_for_everybody(door: Callable[[], Stage], player: Player) -> None:
    stage = door()
    name, first = begun(stage, player)
    first.say("Hel")
    first.fail("broke")
    seen = live(stage, name, 2)
    stage.client.post(f"/v1/responses/{name}/cancel")
    for place in (seen[-1]["sequence_number"], None, 5):
        found = stage.events(name, place)
        assert types(found)[-1] == "failed", place
        assert found[-1]["response"]["status"] == "cancelled"


def test_an_answer_that_was_cut_short_is_incomplete(door: Callable[[], Stage], player: Player) -> None:
    stage = door()
    name, attempt = begun(stage, player, max_output_tokens=3)
    attempt.say("Hel")
    attempt.done({"response": "Hel", "tokens_in": 1, "tokens_out": 3, "data": {"done_reason": "length"}})
    last = stage.events(name)[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert stage.get(name) == last["response"]


def test_pieces_of_several_calls_in_turns_keep_their_items(door: Callable[[], Stage], player: Player) -> None:
    stage = door()
    name, attempt = begun(stage, player)
    pieces = [(0, "a", "{"), (1, "b", "["), (0, None, "}"), (1, None, "]")]
    for index, called, arguments in pieces:
        named = {"name": called} if called else {}
        piece = {"index": index, "function": {**named, "arguments": arguments}, **({"id": called} if called else {})}
        attempt.add(("delta", {"tool_calls": [piece]}))
    calls = [
        {"id": called, "function": {"name": called, "arguments": text}} for called, text in (("a", "{}"), ("b", "[]"))
    ]
    attempt.done({"response": "", "data": {"message": {"tool_calls": calls}}})
    found = stage.events(name)
    done = [event for event in found if event["type"] == "response.function_call_arguments.done"]
    assert [(event["output_index"], event["name"], event["arguments"]) for event in done] == [
        (0, "a", "{}"),
        (1, "b", "[]"),
    ]
    assert found[-1]["response"] == stage.get(name)


def test_a_worker_of_others_that_streams_nothing(door: Callable[[], Stage], player: Player) -> None:
    stage = door()
    name, attempt = begun(stage, player)
    finish(attempt, "Hello")
    found = stage.events(name)
    assert said(found) == "Hello"
    assert numbers(found) == list(range(len(found)))


def test_a_response_in_progress_is_shown_without_output(play: Play) -> None:
    stage = play([Text("Hel"), Pause()])
    found = live(stage, stage.create(background=True).json["id"], 6)
    assert said(found) == "Hel"
    told = stage.get(found[0]["response"]["id"])
    assert (told["status"], told["output"], told["usage"]) == ("in_progress", [], None)
