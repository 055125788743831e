"""What streams beside text: calls of tools and log probabilities, and OpenAI's wishes in Ollama's words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from llm_mcp.http import Wire
from llm_mcp.providers.base import Delta, Provider, Reply
from llm_mcp.providers.fake import Fake, Text, ToolCall
from llm_mcp.providers.ollama import Ollama
from llm_mcp.providers.openai import OpenAI
from llm_mcp.providers.openrouter import OpenRouter

from .provider_peer import Peer, answer, ndjson, sse

DONE = {"model": "m", "done": True, "done_reason": "stop", "message": {"role": "assistant", "content": ""}}
CLOUDS = {"openai": OpenAI, "openrouter": OpenRouter}


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire(read_timeout_s=10)
    yield made
    made.close()


def chat(provider: Provider, wire: Wire, /, **asked: Any) -> tuple[Reply, list[Delta]]:
    deltas: list[Delta] = []
    return provider.chat({"prompt": "hi", **asked}, wire=wire, on_delta=deltas.append), deltas


def ollama(peer: Peer) -> Ollama:
    return Ollama(peer.url, default_model="m")


def cloud(name: str, peer: Peer) -> Provider:
    return CLOUDS[name](f"{peer.url}/v1", SecretStr("k"), default_model="m")


def said(content: str = "", **more: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": content, **more}, "done": False}


def chunk(finish: str | None = None, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
    return {"id": "c", "model": "m", "choices": [choice]}


def calls(deltas: list[Delta]) -> list[Any]:
    return [dict(piece) for delta in deltas for piece in delta.tool_calls]


# — calls of tools —


def test_ollamas_calls_are_pieces_of_openais_form(wire: Wire) -> None:
    first = {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"a": "é"}}}
    second = {"function": {"name": "g", "arguments": {}}}
    lines = [said("well"), said(tool_calls=[first]), said(tool_calls=[second, {"odd": 1}, 7]), DONE]
    with Peer(ndjson(*lines)) as peer:
        reply, deltas = chat(ollama(peer), wire)
    one, two = calls(deltas)
    assert one == {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "f", "arguments": '{"a":"é"}'},
    }
    assert (two["index"], two["function"]) == (1, {"name": "g", "arguments": "{}"})
    assert two["id"].startswith("call_")
    assert [delta.text for delta in deltas] == ["well", "", ""]
    kept = reply.data["message"]["tool_calls"]
    assert kept[0] == first
    assert kept[1]["id"] == two["id"]  # a call's result names it


@pytest.mark.parametrize("name", CLOUDS)
def test_a_clouds_pieces_come_as_they_are(wire: Wire, name: str) -> None:
    begun = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"a"'}}, {"index": 0, "function": {"arguments": ":1}"}}
    events = [chunk(tool_calls=[begun]), *(chunk(tool_calls=[piece]) for piece in more), chunk("tool_calls")]
    with Peer(sse(*events)) as peer:
        reply, deltas = chat(cloud(name, peer), wire)
    assert calls(deltas) == [begun, *more]
    (call,) = reply.data["choices"][0]["message"]["tool_calls"]
    assert call == {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


def test_a_cloud_that_does_not_stream_has_its_calls_numbered(wire: Wire) -> None:
    found = [{"id": str(n), "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(2)]
    message = {"role": "assistant", "content": None, "tool_calls": found}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    with Peer(answer(200, whole)) as peer:
        reply, deltas = chat(cloud("openai", peer), wire)
    assert calls(deltas) == [{"index": n, **call} for n, call in enumerate(found)]
    assert reply.data["choices"][0]["message"]["tool_calls"] == found


def test_the_fakes_calls_are_like_the_real_ones(wire: Wire) -> None:
    reply, deltas = chat(Fake([Text("x"), ToolCall("f", {"a": 1}), ToolCall("g", id="call_2")]), wire)
    one, two = calls(deltas)
    assert (one["index"], one["function"]) == (0, {"name": "f", "arguments": '{"a":1}'})
    assert (two["index"], two["id"]) == (1, "call_2")
    assert reply.data["message"]["tool_calls"][0]["id"] == one["id"]


# — log probabilities —

TOKENS = [{"token": word, "logprob": -1.0} for word in ("a", "b")]


def test_ollamas_log_probabilities_have_openais_form(wire: Wire) -> None:
    tops = [{"token": "é", "logprob": -2.0}]
    lines = [{**said("a"), "logprobs": [{**TOKENS[0], "bytes": [97], "top_logprobs": tops}]}, said("b"), DONE]
    with Peer(ndjson(*lines)) as peer:
        reply, deltas = chat(ollama(peer), wire, logprobs=True, top_logprobs=1)
        assert (peer.requests[0].json["logprobs"], peer.requests[0].json["top_logprobs"]) == (True, 1)
    top = {"token": "é", "logprob": -2.0, "bytes": [195, 169]}
    assert [list(delta.logprobs) for delta in deltas] == [
        [{"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": [top]}],
        [],
    ]
    assert len(reply.data["logprobs"]) == 1


@pytest.mark.parametrize("name", CLOUDS)
def test_a_clouds_log_probabilities_stay_with_their_text(wire: Wire, name: str) -> None:
    events = [chunk(content=token["token"], logprobs={"content": [token]}) for token in TOKENS]
    with Peer(sse(*events, chunk("stop"))) as peer:
        reply, deltas = chat(cloud(name, peer), wire)
    assert [(delta.text, list(delta.logprobs)) for delta in deltas] == [("a", TOKENS[:1]), ("b", TOKENS[1:])]
    assert reply.data["choices"][0]["logprobs"]["content"] == TOKENS


def test_those_of_text_that_was_held_back_come_with_it_and_those_of_thoughts_do_not(wire: Wire) -> None:
    words = ["<thi", "nk>", "hm", "</think>", " ", "ok"]
    events = [chunk(content=word, logprobs={"content": [{"token": word}]}) for word in words]
    with Peer(sse(*events, chunk("stop"))) as peer:
        _, deltas = chat(cloud("openai", peer), wire)
    assert [(delta.thinking, delta.text) for delta in deltas] == [("hm", ""), ("", "ok")]
    assert not deltas[0].logprobs
    assert [token["token"] for token in deltas[1].logprobs] == [" ", "ok"]
    held = [chunk(content=word, logprobs={"content": [{"token": word}]}) for word in ("<", "b>")]
    with Peer(sse(*held, chunk("stop"))) as peer:
        _, deltas = chat(cloud("openai", peer), wire)
    assert [(delta.text, [token["token"] for token in delta.logprobs]) for delta in deltas] == [("<b>", ["<", "b>"])]


# — OpenAI's wishes, to Ollama —

LOOK = {"type": "function", "function": {"name": "look"}}
HEAR = {"type": "function", "function": {"name": "hear"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"response_format": {"type": "json_object"}}, {"format": "json"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}, {"format": SCHEMA}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": "odd"}, {}),
        ({"response_format": {"type": "json_object"}, "format": SCHEMA}, {"format": SCHEMA}),
        ({"reasoning_effort": "none"}, {"think": False}),
        ({"reasoning_effort": "minimal"}, {"think": "low"}),
        ({"reasoning_effort": "high"}, {"think": "high"}),
        ({"max_completion_tokens": 9, "max_tokens": 5}, {"options": {"num_predict": 9}}),
        ({"stop": "x"}, {"options": {"stop": ["x"]}}),
        ({"tools": [LOOK, HEAR], "tool_choice": "auto", "parallel_tool_calls": False}, {"tools": [LOOK, HEAR]}),
        ({"tools": [LOOK, HEAR], "tool_choice": "required"}, {"tools": [LOOK, HEAR]}),
        ({"tools": [LOOK, HEAR], "tool_choice": "none"}, {}),
        ({"tools": [LOOK, HEAR], "tool_choice": HEAR}, {"tools": [HEAR]}),
        ({"provider": "ollama"}, {}),
    ],
)
def test_openais_wishes_in_ollamas_words(wire: Wire, asked: dict[str, Any], sent: dict[str, Any]) -> None:
    before = json.dumps(asked)
    with Peer(ndjson(DONE)) as peer:
        chat(ollama(peer), wire, **asked)
    request = peer.requests[0].json
    assert request == {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}], **sent}
    assert json.dumps(asked) == before


def test_openais_messages_in_ollamas_form(wire: Wire) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "blue"},
        {"role": "tool", "tool_call_id": "call_9", "content": "?"},
    ]
    with Peer(ndjson(DONE)) as peer:
        chat(ollama(peer), wire, messages=messages)
    assert peer.requests[0].json["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "tool_calls": [{**call, "function": {"name": "look", "arguments": {"at": "sky"}}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "blue", "tool_name": "look"},
        {"role": "tool", "tool_call_id": "call_9", "content": "?"},
    ]


def test_openrouters_preferences_reach_it_and_the_name_of_a_provider_does_not(wire: Wire) -> None:
    with Peer(sse(chunk("stop", content="x"))) as peer:
        chat(cloud("openrouter", peer), wire, provider={"order": ["a"]})
        chat(cloud("openrouter", peer), wire, provider="openrouter")
    assert [request.json.get("provider") for request in peer.requests] == [{"order": ["a"]}, None]


def test_models_carry_their_entries(wire: Wire) -> None:
    entry = {"name": "m:latest", "size": 7, "capabilities": ["completion"]}
    with Peer(answer(200, {"models": [entry]}), answer(200, {"models": []})) as peer:
        assert [model.entry for model in ollama(peer).models(wire=wire)] == [entry]
    listed = {"id": "gpt", "created": 5}
    with Peer(answer(200, {"data": [listed]})) as peer:
        assert [model.entry for model in cloud("openai", peer).models(wire=wire)] == [listed]
