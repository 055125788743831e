"""`/api/generate` and `/api/chat`: what is asked of the model, and what the client is told."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest

from llm_mcp.errors import ProviderError
from llm_mcp.providers.fake import Fail, Text, Thinking, ToolCall, Used
from tests.integration.web.ollama.conftest import HI, Play, Stage, ask, lines

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def generate(stage: Stage, **fields: Any) -> Any:
    return ask(stage.client, "/api/generate", {"model": "play", "prompt": "hi", **fields})


def chat(stage: Stage, **fields: Any) -> Any:
    return ask(stage.client, "/api/chat", {"model": "play", "messages": HI, **fields})


def test_a_call_is_a_job_and_its_answer_a_view_of_it(play: Play) -> None:
    stage = play([Thinking("hm"), Text("Hel"), Text("lo"), Used(5, 2)])
    answer = generate(stage, stream=False)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    told = answer.json
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", told.pop("created_at"))
    assert told.pop("total_duration") > 0
    assert told == {
        "model": "play",
        "response": "Hello",
        "thinking": "hm",
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 5,
        "eval_count": 2,
    }
    job = stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"]))
    assert (job.kind, job.source, job.status) == ("ollama.generate", "ollama", "done")
    assert stage.payload(answer) == {"model": "play:latest", "device_id": "local", "prompt": "hi", "stream": False}
    assert float(answer.headers["x-llm-mcp-queue-ms"]) >= 0


def test_unless_told_otherwise_it_streams(play: Play) -> None:
    stage = play([Thinking("hm"), Text("Hel"), Text("lo"), Used(5, 2)])
    answer = chat(stage)
    *pieces, last = lines(answer)
    job = stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"]))
    assert (job.kind, job.source) == ("ollama.chat", "ollama")
    assert {piece["model"] for piece in [*pieces, last]} == {"play"}
    assert [piece["done"] for piece in pieces] == [False] * len(pieces)
    assert "".join(piece["message"]["content"] for piece in pieces) == "Hello"
    assert pieces[0]["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    assert last["message"] == {"role": "assistant", "content": ""}
    assert (last["done"], last["done_reason"], last["prompt_eval_count"], last["eval_count"]) == (True, "stop", 5, 2)


def test_knobs_reach_the_model_and_what_ollama_overlooks_does_not(play: Play) -> None:
    stage = play()
    knobs = {
        "options": {"num_ctx": 512, "stop": ["x"]},
        "keep_alive": "10m",
        "format": {"type": "object"},
        "template": "{{ .Prompt }}",
        "system": "be brief",
        "context": [1, 2],
        "truncate": False,
        "shift": False,
        "suffix": "end",
        "raw": True,
        "think": "low",
        "images": ["aGk="],
        "of_tomorrow": 1,
    }
    others = {"temperature": "hot", "max_tokens": 5, "thinking": False, "device_id": "elsewhere", "_price_in_1m": 9}
    answer = generate(stage, **knobs, **others)
    assert answer.status_code == 200
    assert stage.payload(answer) == {
        **knobs,
        "model": "play:latest",
        "device_id": "local",
        "prompt": "hi",
        "stream": True,
    }
    messages: list[dict[str, Any]] = [
        {"role": "tool", "content": "3", "tool_name": "look"},
        {"content": "?", "images": ["aGk="]},
    ]
    answer = chat(stage, messages=messages, tools=[TOOL], system="overlooked", logprobs=True, top_logprobs=2)
    payload = stage.payload(answer)
    assert payload["messages"] == [messages[0], {**messages[1], "role": ""}]
    assert (payload["tools"], payload["logprobs"], payload["top_logprobs"]) == ([TOOL], True, 2)
    assert "system" not in payload


def test_calls_of_tools_have_objects_and_numbers(play: Play) -> None:
    stage = play([Text("well"), ToolCall("look", {"at": "sky"}, id="call_1"), ToolCall("look", id="call_2")])
    wanted = [
        {"id": "call_1", "function": {"index": 0, "name": "look", "arguments": {"at": "sky"}}},
        {"id": "call_2", "function": {"index": 1, "name": "look", "arguments": {}}},
    ]
    whole = chat(stage, stream=False, tools=[TOOL]).json
    assert (whole["message"]["content"], whole["message"]["tool_calls"]) == ("well", wanted)
    *pieces, last = lines(chat(stage, tools=[TOOL]))
    calling = [piece["message"] for piece in pieces if "tool_calls" in piece["message"]]
    assert [call for message in calling for call in message["tool_calls"]] == wanted
    assert {message["content"] for message in calling} == {""}
    assert "tool_calls" not in last["message"]
    assert last["done_reason"] == "stop"


def test_log_probabilities_stay_with_their_text(play: Play) -> None:
    stage = play([Text(word, [{"token": word, "logprob": -1.0}]) for word in ("a", "b")])
    *pieces, last = lines(generate(stage, logprobs=True))
    assert [(piece["response"], [token["token"] for token in piece["logprobs"]]) for piece in pieces] == [
        ("a", ["a"]),
        ("b", ["b"]),
    ]
    assert "logprobs" not in last
    assert [token["token"] for token in generate(stage, logprobs=True, stream=False).json["logprobs"]] == ["a", "b"]


def test_what_a_stream_over_its_bounds_left_out_comes_at_its_end(play: Play) -> None:
    words = [f"word{n} " for n in range(600)]
    stage = play([Text(word) for word in words], max_stream_bytes=1024)
    assert "".join(line["response"] for line in lines(generate(stage))) == "".join(words)


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_a_request_without_a_word_loads_or_unloads(play: Play, path: str) -> None:
    stage = play([])
    for wish, reason in (("5m", "load"), (0, "unload"), (None, "load"), ("0s", "unload")):
        answer = ask(stage.client, path, {"model": "play", "keep_alive": wish, "options": {"num_ctx": 512}})
        assert answer.headers["Content-Type"].startswith("application/json")
        told = answer.json
        assert (told["done"], told["done_reason"]) == (True, reason)
        assert told.get("response", told.get("message", {}).get("content")) == ""
        payload = stage.payload(answer)
        assert payload.pop("keep_alive", None) == wish
        assert payload == {
            "model": "play:latest",
            "device_id": "local",
            "prompt": "",
            "stream": False,
            "options": {"num_ctx": 512},
        }
        assert stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"])).kind == "ollama.generate"


def test_a_name_may_say_auto_or_where_models_come_from(play: Play) -> None:
    stage = play()
    answer = chat(stage, model="auto", stream=False)
    assert (answer.json["model"], answer.headers["X-Selected-Model"]) == ("play:latest", "play:latest")
    answer = chat(stage, model="registry.ollama.ai/library/play", stream=False)
    assert stage.payload(answer)["model"] == "play:latest"


def test_the_same_key_is_the_same_job(play: Play) -> None:
    stage = play([Text("one")], [Text("two")])
    body = {"model": "play", "prompt": "hi"}
    first, again = (ask(stage.client, "/api/generate", body, **{"Idempotency-Key": "k"}) for _ in range(2))
    assert lines(first)[0]["response"] == lines(again)[0]["response"] == "one"
    assert first.headers["x-llm-mcp-job"] == again.headers["x-llm-mcp-job"]
    other = ask(stage.client, "/api/generate", {**body, "prompt": "ho"}, **{"Idempotency-Key": "k"})
    assert other.status_code == 422
    assert list(other.json) == ["error"]


def test_what_helps_is_tried_again_before_the_first_word(play: Play) -> None:
    busy = ProviderError("busy", retryable=True, code="overloaded", status=503)
    stage = play([Fail(busy)], [Text("second try")])
    answer = generate(stage)
    assert "".join(line["response"] for line in lines(answer)) == "second try"
    assert stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"])).attempts == 2


def test_words_that_were_sent_cannot_be_taken_back(play: Play) -> None:
    broken = ProviderError("ollama: the stream ended", retryable=True, code="broken_stream")
    stage = play([Text("Hel"), Fail(broken)], [Text("Hello")])
    answer = generate(stage)
    first, last = lines(answer)
    assert first["response"] == "Hel"
    assert list(last) == ["error"]
    assert answer.headers["x-llm-mcp-job"] in last["error"]


def test_what_fails_after_the_first_word_is_the_last_line(play: Play) -> None:
    crash = "an error was encountered while running the model: unexpected EOF"
    stage = play([Text("Hel"), Fail(ProviderError(f"ollama: {crash}", retryable=False))])
    first, last = lines(generate(stage))
    assert (first["response"], last) == ("Hel", {"error": crash})


def test_vectors_in_both_forms(play: Play) -> None:
    stage = play([])
    answer = ask(stage.client, "/api/embed", {"model": "play-embed", "input": ["a b", "c"], "keep_alive": -1})
    told = answer.json
    assert (told["model"], len(told["embeddings"]), told["prompt_eval_count"]) == ("play-embed", 2, 3)
    assert told["total_duration"] > 0
    job = stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"]))
    assert (job.kind, job.source) == ("ollama.embed", "ollama")
    assert stage.payload(answer) == {
        "model": "play-embed:latest",
        "device_id": "local",
        "input": ["a b", "c"],
        "keep_alive": -1,
    }
    older = ask(stage.client, "/api/embeddings", {"model": "play-embed", "prompt": "c"})
    assert older.json == {"embedding": told["embeddings"][1]}
    assert stage.payload(older)["truncate"] is False
    knobs = {"dimensions": 4, "truncate": False, "options": {"num_ctx": 64}, "temperature": 1}
    answer = ask(stage.client, "/api/embed", {"model": "play-embed", "input": "c", **knobs})
    assert answer.json["embeddings"] == [told["embeddings"][1]]
    assert stage.payload(answer).items() >= {"dimensions": 4, "truncate": False, "options": {"num_ctx": 64}}.items()
    assert "temperature" not in stage.payload(answer)
    nothing: list[Any] = ["", [], None]
    for empty in nothing:
        body = {"model": "play-embed", "input": empty, "dimensions": 0}
        assert ask(stage.client, "/api/embed", body).json == {"model": "play-embed", "embeddings": []}
    assert ask(stage.client, "/api/embeddings", {"model": "play-embed"}).json == {"embedding": []}
