"""`POST /v1/chat/completions`, whole: what is asked of the model, and what the client is told."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from llm_mcp.job import Status
from llm_mcp.providers.fake import Text, Thinking, ToolCall, Used
from tests.integration.web.openai.conftest import HI, Play

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def test_a_chat_is_a_job_and_its_answer_a_view_of_it(play: Play) -> None:
    stage = play([Text("Hel"), Text("lo"), Used(tokens_in=5, tokens_out=2)])
    before = int(time.time())
    answer = stage.chat(temperature=0.5, user="somebody")
    assert answer.status_code == 200
    job = stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"]))
    assert (job.kind, job.source, job.status) == ("ollama.chat", "openai", Status.DONE)
    told = answer.json
    assert before <= told.pop("created") <= int(time.time())
    assert told == {
        "id": f"chatcmpl-{job.id.hex}",
        "object": "chat.completion",
        "model": "play:latest",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }
    assert float(answer.headers["x-llm-mcp-queue-ms"]) >= 0
    assert answer.headers["x-llm-mcp-worker"]
    assert "X-Selected-Model" not in answer.headers
    assert stage.model.calls[-1]["temperature"] == 0.5
    assert stage.model.calls[-1]["device_id"] == "local"


@pytest.mark.parametrize("named", [{"model": None}, {"model": "auto"}, {"model": ""}])
def test_without_a_model_one_is_chosen_and_told(play: Play, named: dict[str, Any]) -> None:
    answer = play().chat(**named)
    assert answer.status_code == 200
    assert answer.headers["X-Selected-Model"] == "play:latest"


def test_unknown_knobs_reach_the_provider_and_ours_do_not(play: Play) -> None:
    stage = play()
    knobs = {"mirostat": 2, "keep_alive": "5m", "seed": 4, "stop": "x", "top_p": 0.5, "metadata": {"a": "b"}}
    ours = {"n": 1, "stream_options": None, "_price_in_1m": 9, "task_type": "code", "device_id": "elsewhere"}
    answer = stage.chat(**knobs, **ours)
    assert answer.status_code == 200
    payload = stage.payload(answer)
    assert {name: payload[name] for name in knobs} == knobs
    assert payload["device_id"] == "local"
    assert not {"n", "_price_in_1m", "task_type", "stream_options"} & set(payload)


def test_calls_of_tools_are_told_in_openais_form(play: Play) -> None:
    stage = play([ToolCall("look", {"at": "sky"}, id="call_1"), ToolCall("look")])
    answer = stage.chat(tools=[TOOL], tool_choice="auto", parallel_tool_calls=True)
    (choice,) = answer.json["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    first, second = choice["message"]["tool_calls"]
    assert first == {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sky"}'}}
    assert json.loads(second["function"]["arguments"]) == {}
    assert second["id"] not in ("", "call_1")


def test_thinking_and_log_probabilities_have_their_places(play: Play) -> None:
    tokens = [{"token": "ok", "logprob": -0.5, "top_logprobs": [{"token": "no", "logprob": -1.5}]}]
    stage = play([Thinking("hm"), Text("ok", tokens)])
    (choice,) = stage.chat(logprobs=True, top_logprobs=1).json["choices"]
    assert choice["message"]["reasoning_content"] == "hm"
    (token,) = choice["logprobs"]["content"]
    assert (token["token"], token["logprob"], token["bytes"]) == ("ok", -0.5, [111, 107])
    assert token["top_logprobs"][0]["token"] == "no"


def test_a_name_with_a_slash_goes_to_openrouter(play: Play) -> None:
    stage = play(openrouter_api_key=SecretStr("k"))
    answer = stage.chat(model="a/cloudy", provider={"order": ["x"]}, logit_bias={"1": 2})
    assert answer.status_code == 200
    job = stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"]))
    assert job.kind == "openrouter.chat"
    assert stage.payload(answer) | {"provider": {"order": ["x"]}, "logit_bias": {"1": 2}} == stage.payload(answer)
    assert "device_id" not in stage.payload(answer)


def test_a_name_no_device_serves_goes_to_openai_where_there_is_a_key(play: Play) -> None:
    stage = play(openai_api_key=SecretStr("k"))
    answer = stage.chat(model="gpt-of-tomorrow")
    assert answer.status_code == 404  # the provider knows it no better
    assert answer.json["error"]["code"] == "model_not_found"
    job = stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"]))
    assert job.kind == "openai.chat"


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": None}, "messages", "messages_required"),
    ({"messages": []}, "messages", "messages_required"),
    ({"messages": "hi"}, "messages", "invalid_type"),
    ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
    ({"messages": [{"content": "hi"}]}, "messages.0.role", "invalid_payload"),
    ({"model": 7}, "model", "invalid_type"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_type"),
    ({"n": 2}, "n", "unsupported_parameter"),
    ({"n": True}, "n", "unsupported_parameter"),
    ({"temperature": "0.7"}, "temperature", "invalid_payload"),
    ({"max_tokens": 1.5}, "max_tokens", "invalid_payload"),
    ({"stop": [1]}, "stop", "invalid_type"),
    ({"tools": {}}, "tools", "invalid_type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "invalid_value"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
    ({"tool_choice": "must"}, "tool_choice", "invalid_value"),
    ({"tool_choice": {"type": "function", "function": {"name": "none"}}}, "tool_choice", "invalid_value"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "invalid_value"),
    ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"logit_bias": {"1": 1}}, "logit_bias", "unsupported_parameter"),
    ({"functions": [{}]}, "functions", "unsupported_parameter"),
    ({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]},
        "messages[0].content[0]",
        "unsupported_parameter",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        "messages[0].content[0]",
        "unsupported_parameter",
    ),
]


def test_bad_input_is_refused_by_its_name_and_leaves_nothing_behind(play: Play) -> None:
    stage = play()
    for fields, param, code in BAD:
        answer = stage.chat(**fields)
        assert answer.status_code == 400, fields
        error = answer.json["error"]
        assert (answer.status_code, error["param"], error["code"]) == (400, param, code), fields
        assert error["type"] == "invalid_request_error"
        assert param in error["message"]
    assert stage.jobs.page() == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"messages": "\\u0000"}', b"[" * 5000])
def test_what_is_no_object_is_refused(play: Play, body: bytes) -> None:
    answer = play().client.post("/v1/chat/completions", data=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_json")


def test_a_body_over_the_limit_is_413_in_this_shape(play: Play) -> None:
    answer = play(max_body_bytes=2048).chat(messages=[{"role": "user", "content": "x" * 4096}])
    assert (answer.status_code, answer.json["error"]["code"]) == (413, "body_too_large")
    assert answer.json["error"]["type"] == "invalid_request_error"


def test_a_wrong_method_is_405_in_this_shape(play: Play) -> None:
    stage = play()
    answer = stage.client.get("/v1/chat/completions")
    assert (answer.status_code, answer.json["error"]["code"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]
    assert stage.client.post("/v1/jobs/x").json["error"] == "method_not_allowed"


def test_pictures_as_data_and_the_developer_pass(play: Play) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    content = [{"type": "text", "text": "what is this?"}, picture]
    stage = play()
    answer = stage.chat(messages=[{"role": "developer", "content": "be brief"}, {"role": "user", "content": content}])
    assert answer.status_code == 200
    assert stage.payload(answer)["messages"][1]["content"] == content


def test_the_same_key_is_the_same_job(play: Play) -> None:
    stage = play([Text("one")], [Text("two")])
    first = stage.chat(headers={"Idempotency-Key": "k"})
    again = stage.chat(headers={"Idempotency-Key": "k"})
    assert first.json == again.json
    assert first.headers["x-llm-mcp-job"] == again.headers["x-llm-mcp-job"]
    other = stage.chat(headers={"Idempotency-Key": "k"}, messages=[*HI, *HI])
    assert (other.status_code, other.json["error"]["code"]) == (422, "idempotency_key_reused")
    assert other.headers["x-should-retry"] == "false"
    bad = stage.chat(headers={"Idempotency-Key": "a,b"})
    assert (bad.status_code, bad.json["error"]["param"]) == (400, "Idempotency-Key")
    assert len(stage.jobs.page()) == 1
