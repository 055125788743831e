"""Ollama's clients and a cloud's models: the request in OpenAI's form, the answer in Ollama's."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from llm_mcp.jobs import Jobs
from llm_mcp.providers.fake import Text, Thinking, ToolCall, Used
from llm_mcp.runtime import Runtime
from tests.integration.web.client import Client
from tests.integration.web.ollama.conftest import HI, Play, Stage, ask, lines
from tests.integration.web.played import Player
from tests.waiting import until

KEYS: dict[str, Any] = {"openrouter_api_key": SecretStr("k"), "openai_api_key": SecretStr("k")}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and more").decode()
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def chat(stage: Stage, model: str = "a/cloudy", **fields: Any) -> Any:
    return ask(stage.client, "/api/chat", {"model": model, "messages": HI, **fields})


def test_a_name_with_a_slash_goes_to_openrouter_and_comes_back_in_ollamas_form(play: Play) -> None:
    stage = play([Thinking("hm"), Text("Hel"), Text("lo"), Used(5, 2)], **KEYS)
    whole = chat(stage, stream=False)
    assert stage.jobs.get(UUID(whole.headers["x-llm-mcp-job"])).kind == "openrouter.chat"
    assert whole.json["message"] == {"role": "assistant", "content": "Hello", "thinking": "hm"}
    assert (whole.json["model"], whole.json["prompt_eval_count"], whole.json["eval_count"]) == ("a/cloudy", 5, 2)
    assert whole.json["total_duration"] > 0
    *pieces, last = lines(chat(stage))
    assert "".join(piece["message"]["content"] for piece in pieces) == "Hello"
    assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "stop", 2)
    generated = ask(stage.client, "/api/generate", {"model": "gpt", "prompt": "hi", "stream": False})
    assert generated.json["response"] == "Hello"
    assert "context" not in generated.json
    assert stage.jobs.get(UUID(generated.headers["x-llm-mcp-job"])).kind == "openai.chat"


def test_a_chat_is_asked_in_openais_form(play: Play) -> None:
    stage = play(**KEYS)
    call = {"function": {"name": "look", "arguments": {"at": "sky"}}}
    messages = [
        {"role": "user", "content": "what is this?", "images": [PNG]},
        {"role": "assistant", "content": "", "tool_calls": [call, {"function": {"name": "hear", "arguments": {}}}]},
        {"role": "tool", "tool_name": "hear", "content": "quiet"},
        {"role": "tool", "tool_name": "look", "content": "blue"},
    ]
    schema = {"type": "object"}
    knobs: dict[str, Any] = {
        "keep_alive": "5m",
        "truncate": True,
        "options": {"num_predict": 3},
        "tools": [TOOL],
        "think": "max",
    }
    payload = stage.payload(chat(stage, messages=messages, format=schema, logprobs=True, top_logprobs=2, **knobs))
    asked, calling, hear, look = payload.pop("messages")
    assert asked["content"] == [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ]
    assert calling["content"] is None
    first, second = calling["tool_calls"]
    assert (first["type"], json.loads(first["function"]["arguments"])) == ("function", {"at": "sky"})
    assert (hear["tool_call_id"], look["tool_call_id"]) == (second["id"], first["id"])
    assert first["id"] != second["id"]
    assert payload == {
        "model": "a/cloudy",
        "stream": True,
        "options": {"num_predict": 3},
        "tools": [TOOL],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        "logprobs": True,
        "top_logprobs": 2,
        "thinking": True,
        "reasoning": {"effort": "high"},
    }


def test_a_prompt_is_asked_as_a_chat(play: Play) -> None:
    stage = play(**KEYS)
    body = {"model": "gpt", "prompt": "hi", "system": "be brief", "format": "json", "think": False}
    payload = stage.payload(ask(stage.client, "/api/generate", body))
    assert payload == {
        "model": "gpt",
        "stream": True,
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "response_format": {"type": "json_object"},
        "thinking": False,
    }
    assert stage.payload(chat(stage, model="gpt", think="low"))["reasoning_effort"] == "low"


def test_calls_of_tools_come_whole_at_the_end(play: Play) -> None:
    stage = play([Text("well"), ToolCall("look", {"at": "sky"}, id="c1")], **KEYS)
    *pieces, last = lines(chat(stage, tools=[TOOL]))
    (call,) = pieces[-1]["message"]["tool_calls"]
    assert call == {"id": "c1", "function": {"index": 0, "name": "look", "arguments": {"at": "sky"}}}
    assert last["done_reason"] == "stop"


def test_what_such_a_model_cannot_do_is_refused_before_there_is_a_job(play: Play) -> None:
    stage = play(**KEYS)
    for fields, words in (
        ({"suffix": "b"}, "insert"),
        ({"raw": True}, "raw mode"),
        ({"template": "x"}, "templates"),
        ({"context": [1]}, "context"),
        ({"format": "xml"}, "invalid format"),
    ):
        answer = ask(stage.client, "/api/generate", {"model": "gpt", "prompt": "hi", **fields})
        assert answer.status_code == 400, fields
        assert words in answer.json["error"]
    answer = chat(stage, messages=[{"role": "tool", "content": "3"}])
    assert (answer.status_code, answer.json) == (400, {"error": "a tool's result without a call before it"})
    assert stage.jobs.page() == []


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/api/generate", {}, {"response": "", "done_reason": "load"}),
        ("/api/chat", {"keep_alive": 0}, {"done_reason": "unload"}),
        ("/api/embed", {"input": []}, {"embeddings": []}),
    ],
)
def test_there_is_nothing_to_load_and_nothing_to_pay(
    play: Play, path: str, body: dict[str, Any], told: dict[str, Any]
) -> None:
    stage = play(**KEYS)
    answer = ask(stage.client, path, {"model": "a/cloudy", **body})
    assert answer.status_code == 200
    assert answer.json.items() >= told.items()
    assert stage.jobs.page() == []


def test_vectors_of_a_cloud(play: Play) -> None:
    stage = play([], **KEYS, cloud_embed_dimensions=8)
    answer = ask(stage.client, "/api/embed", {"model": "a/cloudy", "input": ["a", "b"], "keep_alive": "5m"})
    assert len(answer.json["embeddings"]) == 2
    assert stage.payload(answer) == {"model": "a/cloudy", "input": ["a", "b"], "dimensions": 8}
    assert stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"])).kind == "openrouter.embed"


def test_vectors_in_openais_form_come_in_their_order(
    alone: Callable[..., Client], player: Player, runtime: Runtime
) -> None:
    client = alone(openrouter_api_key=SecretStr("k"))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, client, "/api/embed", {"model": "a/cloudy", "input": ["a", "b"]})
        until(Jobs(runtime).page)
        attempt = player.claim(None, "openrouter.embed")
        vectors = [{"index": 1, "embedding": [0.5]}, {"index": 0, "embedding": [0.25]}]
        attempt.done({"tokens_in": 3, "data": {"data": vectors, "object": "list"}})
        told = asking.result(20).json
    assert (told["embeddings"], told["prompt_eval_count"]) == ([[0.25], [0.5]], 3)


def test_calls_that_come_bit_by_bit_are_put_together(
    alone: Callable[..., Client], player: Player, runtime: Runtime
) -> None:
    client = alone(openrouter_api_key=SecretStr("k"))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(chat_of, client)
        until(Jobs(runtime).page)
        attempt = player.claim(None, "openrouter.chat")
        for piece in (
            {"id": "c1", "function": {"name": "look", "arguments": '{"at":'}},
            {"function": {"arguments": "1}"}},
        ):
            attempt.add(("delta", {"tool_calls": [{"index": 0, **piece}]}))
        call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        attempt.done({"data": {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}})
        first, last = lines(asking.result(20))
    assert first["message"]["tool_calls"] == [
        {"id": "c1", "function": {"index": 0, "name": "look", "arguments": {"at": 1}}}
    ]
    assert (last["done"], last["done_reason"]) == (True, "stop")


def chat_of(client: Client) -> Any:
    return ask(client, "/api/chat", {"model": "a/cloudy", "messages": HI})
