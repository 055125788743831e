"""The dialects, byte by byte: what goes out for a payload, what comes back for an answer, and each way to fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from llm_mcp.errors import ProviderError
from llm_mcp.http import Wire
from llm_mcp.providers.base import Delta, Provider, Reply
from llm_mcp.providers.ollama import Ollama
from llm_mcp.providers.openai import OpenAI
from llm_mcp.providers.openrouter import OpenRouter
from llm_mcp.providers.sse import events

from .provider_peer import Line, Peer, Say, answer, hang_up, ndjson, sse, stream

KEY = "sk-canary-0123456789abcdef"
PROMPT = "a prompt that must never be seen in an error"
OURS = {
    "_tier": "small",
    "_price_in_1m": 1,
    "_price_out_1m": 2,
    "device_id": "d",
    "ollama_addr": "10.0.0.1:11434",
    "ollama_host": "evil.example",
    "ollama_base_url": "http://10.0.0.1",
    "stream": False,
}


def ollama(peer: Peer, **more: Any) -> Ollama:
    return Ollama(peer.url, **{"default_model": "m", "default_embed_model": "e", **more})


def openai(peer: Peer, path: str = "/v1", key: str | None = KEY) -> OpenAI:
    secret = None if key is None else SecretStr(key)
    return OpenAI(peer.url + path, secret, default_model="m", default_embed_model="e")


def openrouter(peer: Peer) -> OpenRouter:
    return OpenRouter(peer.url + "/api/v1", SecretStr(KEY), default_model="a/m")


DIALECTS: dict[str, Callable[[Peer], Provider]] = {"ollama": ollama, "openai": openai, "openrouter": openrouter}


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire(read_timeout_s=10)
    yield made
    made.close()


def chat(provider: Provider, wire: Wire, asked: dict[str, Any] | None = None) -> tuple[Reply, list[Delta]]:
    deltas: list[Delta] = []
    return provider.chat({"prompt": PROMPT, **(asked or {})}, wire=wire, on_delta=deltas.append), deltas


def generate(provider: Provider, wire: Wire, asked: dict[str, Any]) -> tuple[Reply, list[Delta]]:
    deltas: list[Delta] = []
    return provider.generate(asked, wire=wire, on_delta=deltas.append), deltas


def failure(call: Callable[[], object]) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        call()
    return caught.value


def chunk(content: str | None = None, *, finish: str | None = None, index: int = 0, **delta: Any) -> dict[str, Any]:
    said = {**({"content": content} if content is not None else {}), **delta}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-0613",
        "choices": [{"index": index, "delta": said, "finish_reason": finish}],
    }


USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
COUNTED = {"id": "c1", "model": "m-0613", "choices": [], "usage": USAGE}
DONE = {"model": "m", "done": True, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 2, "eval_duration": 9}


def said(content: str, **more: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "created_at": "t",
        "message": {"role": "assistant", "content": content, **more},
        "done": False,
    }


# — Ollama: out —


def test_ollama_generate_sends_what_was_asked_in_its_own_words(wire: Wire) -> None:
    asked = {
        **OURS,
        "prompt": "hi",
        "model": "x:1b",
        "temperature": 0.5,
        "max_tokens": 7,
        "options": {"system": "be brief", "top_k": 3},
        "format": "json",
        "keep_alive": "1m",
        "images": ["aGk="],
        "raw": True,
        "suffix": None,
    }
    before = json.dumps(asked)
    with Peer(ndjson(DONE)) as peer:
        generate(ollama(peer), wire, asked)
        request = peer.requests[0]
    assert request.head.startswith("POST /api/generate ")
    assert f"host: 127.0.0.1:{peer.port}" in request.head
    assert request.json == {
        "model": "x:1b",
        "prompt": "hi",
        "system": "be brief",
        "stream": True,
        "options": {"top_k": 3, "temperature": 0.5, "num_predict": 7},
        "format": "json",
        "keep_alive": "1m",
        "images": ["aGk="],
        "raw": True,
    }
    assert json.dumps(asked) == before


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"prompt": "hi"}, {"prompt": "hi"}),
        ({}, {"prompt": ""}),
        ({"prompt": "hi", "thinking": False}, {"prompt": "hi", "think": False}),
        ({"prompt": "hi", "thinking": True}, {"prompt": "hi", "think": True}),
        ({"prompt": "hi", "thinking": True, "think": "low"}, {"prompt": "hi", "think": "low"}),
        (
            {"prompt": "hi", "temperature": 1.0, "max_tokens": 9, "options": {"temperature": 0.1, "num_predict": 4}},
            {"prompt": "hi", "options": {"temperature": 0.1, "num_predict": 4}},
        ),
        ({"prompt": "hi", "stop": ["x"], "seed": 1}, {"prompt": "hi", "options": {"seed": 1, "stop": ["x"]}}),
        ({"prompt": "hi", "system": "a", "options": {"system": "b"}}, {"prompt": "hi", "system": "a"}),
    ],
)
def test_ollama_sends_nothing_the_caller_did_not_set(wire: Wire, asked: dict[str, Any], sent: dict[str, Any]) -> None:
    with Peer(ndjson(DONE)) as peer:
        generate(ollama(peer), wire, asked)
    assert peer.requests[0].json == {"model": "m", "stream": True, **sent}


def test_ollama_chat_turns_other_dialects_messages_into_its_own(wire: Wire) -> None:
    parts = [
        {"type": "text", "text": "what is"},
        {"type": "text", "text": "this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "image_url", "image_url": {"url": "http://10.0.0.1/not-fetched.png"}},
    ]
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    with Peer(ndjson(DONE)) as peer:
        chat(ollama(peer), wire, {"messages": messages, "system": "be brief", "tools": [{"type": "function"}]})
        request = peer.requests[0]
    assert request.head.startswith("POST /api/chat ")
    assert request.json == {
        "model": "m",
        "stream": True,
        "tools": [{"type": "function"}],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "what is\nthis?", "images": ["aGk="]},
            {"role": "assistant", "tool_calls": [{**call, "function": {"name": "f", "arguments": {"a": 1}}}]},
        ],
    }


TAGS = {
    "models": [
        {"name": "e1:latest", "capabilities": ["embedding"]},
        {"name": "t1:latest", "capabilities": ["completion", "tools"]},
        {"name": "nomic-embed-text:latest"},
        {"name": "t2:latest", "capabilities": ["completion"]},
        {"odd": 1},
        {"name": "odd:latest", "capabilities": 1},
    ]
}


@pytest.mark.parametrize(
    ("loaded", "text", "embed"),
    [
        ([], "t1:latest", "e1:latest"),
        (["t2:latest", "nomic-embed-text:latest"], "t2:latest", "nomic-embed-text:latest"),
        (["nomic-embed-text:latest"], "t1:latest", "nomic-embed-text:latest"),
    ],
)
def test_ollama_takes_the_first_loaded_model_else_the_first_listed(
    wire: Wire, loaded: list[str], text: str, embed: str
) -> None:
    listing = [answer(200, TAGS), answer(200, {"models": [{"name": name} for name in loaded]})]
    vectors = answer(200, {"embeddings": [[1.0]]})
    with Peer(*listing, ndjson(DONE), *listing, vectors) as peer:
        provider = Ollama(f"127.0.0.1:{peer.port}")
        assert generate(provider, wire, {"prompt": "hi"})[0].model == text
        assert provider.embed({"prompt": "hi"}, wire=wire).model == embed
        assert [request.json["model"] for request in (peer.requests[2], peer.requests[5])] == [text, embed]


def test_ollama_without_models_says_so(wire: Wire) -> None:
    with Peer(answer(200, {"models": None})) as peer:
        error = failure(lambda: generate(Ollama(peer.url), wire, {"prompt": "hi"}))
    assert (str(error), error.code, error.retryable) == ("ollama: no model is installed there", "not_found", False)


def test_ollama_gives_up_thinking_that_was_only_wished_for(wire: Wire) -> None:
    refuses = answer(400, {"error": '"m" does not support thinking'})
    with Peer(refuses, ndjson({"response": "ok"}, DONE)) as peer:
        assert generate(ollama(peer), wire, {"prompt": "hi", "thinking": True})[0].text == "ok"
        assert [request.json.get("think") for request in peer.requests] == [True, None]
    with Peer(refuses) as peer:
        assert failure(lambda: generate(ollama(peer), wire, {"prompt": "hi", "think": True})).code == "bad_request"
        assert len(peer.requests) == 1


# — Ollama: back —


def test_ollama_generate_is_put_together_as_if_it_had_not_been_streamed(wire: Wire) -> None:
    lines = [
        {"model": "m", "created_at": "1", "response": "", "thinking": "hm ", "done": False},
        {"model": "m", "created_at": "2", "response": "", "thinking": "yes", "done": False},
        {"model": "m", "created_at": "3", "response": "Hel", "done": False},
        {"model": "m", "created_at": "4", "response": "lo", "done": False},
        {**DONE, "created_at": "5", "response": "", "context": [1, 2, 3]},
    ]
    with Peer(ndjson(*lines)) as peer:
        reply, deltas = generate(ollama(peer), wire, {"prompt": "hi"})
    assert reply.data == {**DONE, "created_at": "5", "response": "Hello", "thinking": "hm yes", "context": [1, 2, 3]}
    assert (reply.text, reply.thinking, reply.usage.tokens_in, reply.usage.tokens_out) == ("Hello", "hm yes", 5, 2)
    assert deltas == [Delta(thinking="hm "), Delta(thinking="yes"), Delta("Hel"), Delta("lo")]


def test_ollama_chat_is_put_together_with_its_tool_calls(wire: Wire) -> None:
    first = {"id": "1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
    second = {"id": "2", "function": {"index": 1, "name": "g", "arguments": {}}}
    lines = [said("", thinking="hm"), said("ok"), said("", tool_calls=[first]), said("", tool_calls=[second])]
    with Peer(ndjson(*lines, {**DONE, "message": {"role": "assistant", "content": ""}})) as peer:
        reply, _ = chat(ollama(peer), wire)
    message = {"role": "assistant", "content": "ok", "thinking": "hm", "tool_calls": [first, second]}
    assert reply.data == {**DONE, "created_at": "t", "message": message}


def test_ollama_loading_a_model_is_an_answer_too(wire: Wire) -> None:
    loaded = {"model": "m", "response": "", "done": True, "done_reason": "load"}
    with Peer(answer(200, loaded)) as peer:
        reply, deltas = generate(ollama(peer), wire, {"prompt": ""})
    assert (reply.data, reply.text, reply.usage.tokens_out, deltas) == (loaded, "", 0, [])


def test_ollama_embeddings(wire: Wire) -> None:
    one = {"model": "e", "embeddings": [[0.1, 0.2]], "prompt_eval_count": 3}
    two = {"model": "e", "embeddings": [[0.1, 0.2], [0.3, 0.4]]}
    with Peer(answer(200, one), answer(200, two), answer(200, {"embeddings": []}), answer(200, two)) as peer:
        provider = ollama(peer)
        reply = provider.embed({**OURS, "prompt": "hi", "dimensions": 2, "options": {"num_ctx": 9}}, wire=wire)
        assert (reply.data, reply.usage.tokens_in) == ({**one, "embedding": [0.1, 0.2]}, 3)
        assert provider.embed({"input": ["a", "b"], "model": "x"}, wire=wire).data == two
        assert provider.embed({"input": []}, wire=wire).data == {"embeddings": []}
        error = failure(lambda: provider.embed({"prompt": "hi"}, wire=wire))
        assert (str(error), error.retryable) == ("ollama: 2 vectors for 1 texts", False)
        assert [request.json for request in peer.requests[:3]] == [
            {"model": "e", "input": "hi", "dimensions": 2, "options": {"num_ctx": 9}},
            {"model": "x", "input": ["a", "b"]},
            {"model": "e", "input": []},
        ]
        assert peer.requests[0].head.startswith("POST /api/embed ")


# — thinking in the text —


@pytest.mark.parametrize(
    ("written", "thinking", "text"),
    [
        ("<think>a b</think>c", "a b", "c"),
        ("  \n<think>\n\nwell\n</think>\n\nAnswer <b>x</b>", "well\n", "Answer <b>x</b>"),
        ("<think></think>c", "", "c"),
        ("<think>never ends </thin", "never ends </thin", ""),
        ("<thinking>no</thinking>", "", "<thinking>no</thinking>"),
        ("a <think>b</think>", "", "a <think>b</think>"),
        (" <thi", "", " <thi"),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ("<think>a </ b < c</think>d", "a </ b < c", "d"),
        ("   ", "", "   "),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("dialect", ["ollama", "openai"])
def test_a_block_of_thinking_in_front_is_moved(
    wire: Wire, written: str, thinking: str, text: str, size: int, dialect: str
) -> None:
    pieces = [written[i : i + size] for i in range(0, len(written), size)]
    spoken = ndjson(*map(said, pieces), DONE) if dialect == "ollama" else sse(*map(chunk, pieces), chunk(finish="stop"))
    with Peer(spoken) as peer:
        reply, deltas = chat(DIALECTS[dialect](peer), wire)
    assert (reply.thinking, reply.text) == (thinking, text)
    assert "".join(delta.thinking for delta in deltas) == thinking
    assert "".join(delta.text for delta in deltas) == text
    assert written in json.dumps(reply.data, ensure_ascii=False).replace("\\n", "\n")  # the raw answer stays raw


# — OpenAI's dialect: out —


def test_openai_sends_what_was_asked(wire: Wire) -> None:
    asked = {
        **OURS,
        "model": "gpt",
        "messages": [{"role": "user", "content": "hi"}],
        "system": "be brief",
        "temperature": 0.0,
        "max_tokens": 7,
        "thinking": True,
        "top_p": 0.5,
        "tools": [{"type": "function"}],
        "options": {"temperature": 9, "seed": 4, "num_ctx": 2048},
        "stop": None,
    }
    with Peer(sse(chunk("ok", finish="stop"))) as peer:
        chat(openai(peer), wire, asked)
        request = peer.requests[0]
    assert request.head.startswith("POST /v1/chat/completions ")
    assert f"authorization: Bearer {KEY}" in request.head
    assert request.json == {
        "model": "gpt",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "temperature": 0.0,
        "max_tokens": 7,
        "top_p": 0.5,
        "seed": 4,
        "tools": [{"type": "function"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1?api-version=2", "/v1/chat/completions?api-version=2"),
    ],
)
def test_openai_takes_both_forms_of_base_url(wire: Wire, base: str, path: str) -> None:
    with Peer(sse(chunk("ok", finish="stop")), answer(200, {"data": [{"id": "m1"}, {"odd": 1}]})) as peer:
        provider = openai(peer, base)
        reply, _ = generate(provider, wire, {"prompt": "hi"})
        assert [model.name for model in provider.models(wire=wire)] == ["m1"]
        assert [request.head.split(" ")[1] for request in peer.requests] == [
            path,
            path.replace("chat/completions", "models"),
        ]
        assert peer.requests[0].json["messages"] == [{"role": "user", "content": "hi"}]
    assert reply.model == "m"


def test_openais_own_service_gets_the_newer_name_of_max_tokens() -> None:
    provider = OpenAI("https://api.openai.com/v1", SecretStr(KEY), default_model="m")
    assert provider._chat_body({"prompt": "hi", "max_tokens": 7})["max_completion_tokens"] == 7
    assert "max_tokens" not in provider._chat_body({"prompt": "hi", "max_tokens": 7})


def test_openai_without_a_key_asks_nobody(wire: Wire) -> None:
    with Peer(answer(200)) as peer:
        provider = openai(peer, key=None)
        calls = (
            lambda: chat(provider, wire),
            lambda: provider.embed({"prompt": "x"}, wire=wire),
            lambda: provider.models(wire=wire),
        )
        for call in calls:
            error = failure(call)
            assert (str(error), error.code, error.retryable) == ("missing OPENAI_API_KEY", "unauthorized", False)
        assert peer.connections == 0
    missing = failure(lambda: chat(OpenRouter("http://127.0.0.1:1", None, default_model="m"), wire))
    assert str(missing) == "missing OPENROUTER_API_KEY"


def test_openai_asks_an_older_server_without_counting(wire: Wire) -> None:
    refuses = answer(400, {"error": {"message": "Unrecognized request argument: stream_options", "type": "x"}})
    with Peer(refuses, sse(chunk("ok", finish="stop"))) as peer:
        reply, _ = chat(openai(peer), wire)
        assert [("stream_options" in request.json) for request in peer.requests] == [True, False]
    assert (reply.text, reply.usage.tokens_in) == ("ok", 0)


# — OpenAI's dialect: back —


def test_openai_chunks_are_put_together_as_if_they_had_not_been_streamed(wire: Wire) -> None:
    spoken = [
        b": a comment\n\n",
        chunk("", role="assistant"),
        chunk(None, reasoning_content="hm"),
        chunk("Hel"),
        b"event: message\r\nid: 7\r\ndata: " + json.dumps(chunk("lo")).encode() + b"\r\n\r\n",
        b"data: " + json.dumps(chunk("!"), indent=1).replace("\n", "\ndata: ").encode() + b"\n\n",
        {**chunk(None, finish="stop"), "usage": None},
        COUNTED,
    ]
    with Peer(sse(*spoken)) as peer:
        reply, deltas = chat(openai(peer), wire)
        assert peer.connections == 1
    message = {"role": "assistant", "content": "Hello!", "reasoning_content": "hm"}
    assert reply.data == {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m-0613",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": USAGE,
    }
    assert (reply.model, reply.usage.tokens_in, reply.usage.tokens_out, reply.usage.cost_usd) == ("m", 5, 2, None)
    assert deltas == [Delta(thinking="hm"), Delta("Hel"), Delta("lo"), Delta("!")]


def test_openai_tool_calls_are_merged_by_their_index(wire: Wire) -> None:
    def part(index: int, **more: Any) -> dict[str, Any]:
        return chunk(None, tool_calls=[{"index": index, **more}])

    spoken = [
        part(0, id="1", type="function", function={"name": "f", "arguments": ""}),
        part(0, function={"arguments": '{"a":'}),
        part(1, id="2", type="function", function={"name": "g", "arguments": "{"}),
        part(0, function={"arguments": "1}"}),
        part(1, function={"arguments": "}"}),
        chunk(None, finish="tool_calls"),
    ]
    with Peer(sse(*spoken)) as peer:
        reply, _ = chat(openai(peer), wire)
    assert reply.data["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
            {"id": "2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


def test_openai_several_choices_keep_apart(wire: Wire) -> None:
    spoken = [chunk("a"), chunk("x", index=1), chunk("b", finish="stop"), chunk("y", index=1, finish="length")]
    with Peer(sse(*spoken)) as peer:
        reply, _ = chat(openai(peer), wire)
    assert [choice["message"]["content"] for choice in reply.data["choices"]] == ["ab", "xy"]
    assert reply.text == "ab"


def test_openai_a_server_that_does_not_stream_is_understood(wire: Wire) -> None:
    whole = {
        "id": "c1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
    with Peer(answer(200, whole)) as peer:
        reply, deltas = chat(openai(peer), wire)
    assert (reply.data, reply.text, reply.usage.tokens_out, deltas) == (whole, "Hello", 2, [Delta("Hello")])


def test_openai_a_stream_may_end_without_a_word_but_not_without_a_reason(wire: Wire) -> None:
    with Peer(sse(chunk("Hello"), chunk(None, finish="stop"), done=False)) as peer:
        assert chat(openai(peer), wire)[0].text == "Hello"


def test_openai_what_follows_the_end_is_not_heard(wire: Wire) -> None:
    late = [b"data: [DONE]\n\n", b"data: not JSON\n\n"]
    with Peer(sse(chunk("Hello", finish="stop"), *late, done=False), sse(chunk("again", finish="stop"))) as peer:
        provider = openai(peer)
        assert [chat(provider, wire)[0].text for _ in range(2)] == ["Hello", "again"]
        assert peer.connections == 1


def test_openai_empty_values_take_nothing_back(wire: Wire) -> None:
    last = {**chunk("!"), "model": "", "system_fingerprint": None, "usage": None}
    with Peer(sse({**chunk("Hello", finish="stop"), "usage": USAGE}, last)) as peer:
        data = chat(openai(peer), wire)[0].data
    assert (data["model"], data["usage"], data["choices"][0]["finish_reason"]) == ("m-0613", USAGE, "stop")


def test_events_are_the_data_between_blank_lines() -> None:
    lines = [b"data: a", b"data:b", b"id: 1", b": c", b"", b"", b"event: x", b"", b"data:  d", b"data", b"", b"data: e"]
    assert list(events(lines)) == [b"a\nb", b" d\n", b"e"]


def test_half_characters_do_not_lose_an_answer(wire: Wire) -> None:
    spoken = [b'data: {"choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}\n\n', chunk("b", finish="stop")]
    with Peer(sse(*spoken)) as peer:
        assert chat(openai(peer), wire)[0].text == "a\ud83db"


def test_openai_embeddings(wire: Wire) -> None:
    one = {"object": "list", "data": [{"index": 0, "embedding": [0.1]}], "usage": {"prompt_tokens": 3}}
    two = {"object": "list", "data": [{"index": 0, "embedding": [0.1]}, {"index": 1, "embedding": [0.2]}]}
    with Peer(answer(200, one), answer(200, two), answer(200, two)) as peer:
        provider = openai(peer)
        reply = provider.embed({**OURS, "prompt": "hi", "dimensions": 1}, wire=wire)
        assert (reply.data, reply.model, reply.usage.tokens_in) == ({**one, "embedding": [0.1]}, "e", 3)
        assert provider.embed({"input": ["a", "b"]}, wire=wire).data == two
        assert not failure(lambda: provider.embed({"prompt": "hi"}, wire=wire)).retryable
        assert peer.requests[0].json == {"model": "e", "input": "hi", "dimensions": 1}
        assert peer.requests[0].head.startswith("POST /v1/embeddings ")


# — OpenRouter —


def test_openrouter_names_the_application_and_reads_the_price_to_the_last_digit(wire: Wire) -> None:
    cost = "0.000012345678901234567890"
    counted = f'data: {{"choices":[],"usage":{{"prompt_tokens":5,"completion_tokens":2,"cost":{cost}}}}}\n\n'
    processing = b": OPENROUTER PROCESSING\n\n"
    with Peer(
        sse(processing, chunk("ok", reasoning="hm"), processing, chunk(None, finish="stop"), counted.encode())
    ) as peer:
        reply, _ = chat(openrouter(peer), wire)
        request = peer.requests[0]
    assert request.head.startswith("POST /api/v1/chat/completions ")
    assert "x-openrouter-title: " in request.head
    assert "http-referer: http" in request.head
    assert (reply.text, reply.thinking, reply.usage.tokens_in) == ("ok", "hm", 5)
    assert reply.usage.cost_usd == Decimal(cost)
    assert reply.data["usage"]["cost"] == pytest.approx(float(cost))


@pytest.mark.parametrize(
    ("cost", "known"), [("0", Decimal(0)), ('"0.1"', Decimal("0.1")), ("null", None), ("-1", None), ("[]", None)]
)
def test_openrouter_an_odd_price_is_no_price(wire: Wire, cost: str, known: Decimal | None) -> None:
    counted = f'data: {{"choices":[],"usage":{{"prompt_tokens":5,"cost":{cost}}}}}\n\n'.encode()
    with Peer(sse(chunk("ok", finish="stop"), counted)) as peer:
        assert chat(openrouter(peer), wire)[0].usage.cost_usd == known


# — each way to fail —

OVERLOADED = {"code": 502, "message": "upstream", "metadata": {"error_type": "provider_overloaded"}}

FAULTS: list[tuple[str, Say, str, bool]] = [
    ("ollama", ndjson(said("half")), "broken_stream", True),
    ("ollama", ndjson(said("half"), end=False), "broken_stream", True),
    ("ollama", ndjson(said("half"), b'{"model":"m","mess'), "broken_stream", True),
    ("ollama", ndjson(said("half"), b"[1]\n"), "broken_stream", True),
    ("ollama", ndjson(said("half"), b"[" * 100_000 + b"\n"), "broken_stream", True),
    ("ollama", ndjson(said("half"), {"error": "an error was encountered: unexpected EOF"}), "provider_failed", True),
    ("ollama", stream(b""), "broken_stream", True),
    ("ollama", hang_up, "broken_stream", True),
    ("ollama", answer(404, {"error": "model 'm' not found"}), "not_found", False),
    ("ollama", answer(500, {"error": 'option "num_ctx" must be of type integer'}), "bad_request", False),
    ("ollama", answer(302, b"", Location="http://127.0.0.1:1/"), "provider_failed", False),
    ("openai", sse(chunk("half"), done=False), "broken_stream", True),
    ("openai", sse(chunk("half")), "broken_stream", True),
    ("openai", sse(chunk("half"), done=False, end=False), "broken_stream", True),
    ("openai", sse({**chunk(""), "model": ""}, done=False), "broken_stream", True),
    ("openai", sse(chunk("a", finish="stop"), chunk("half", index=1)), "broken_stream", True),
    ("openai", sse(), "broken_stream", True),
    ("openai", sse(b"data: {half\n\n"), "broken_stream", True),
    ("openai", sse(chunk("half"), {"error": {"message": "boom", "type": "server_error"}}), "provider_failed", True),
    ("openai", answer(429, {"error": {"message": "m", "code": "insufficient_quota"}}), "quota", False),
    ("openai", answer(401, {"error": {"message": f"Incorrect API key: {KEY}"}}), "unauthorized", False),
    ("openai", answer(200, "hello"), "broken_stream", True),
    ("openrouter", answer(200, {"error": OVERLOADED}), "overloaded", True),
    ("openrouter", answer(200, {"choices": [{"error": OVERLOADED, "finish_reason": "error"}]}), "overloaded", True),
    ("openrouter", sse(chunk("half"), {**chunk("", finish="error"), "error": OVERLOADED}), "overloaded", True),
    ("openrouter", sse(chunk("half"), chunk("", finish="error")), "provider_failed", True),
    ("openrouter", answer(402, {"error": {"code": 402, "message": "Insufficient credits"}}), "quota", False),
]


@pytest.mark.parametrize(("dialect", "says", "code", "retryable"), FAULTS)
def test_faults(wire: Wire, dialect: str, says: Say, code: str, retryable: bool) -> None:
    with Peer(says) as peer:
        error = failure(lambda: chat(DIALECTS[dialect](peer), wire))
    assert (error.code, error.retryable) == (code, retryable)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_busy_provider_says_when_to_come_back(wire: Wire, dialect: str) -> None:
    with Peer(answer(429, {"error": {"message": "slow down"}}, Retry_After="7")) as peer:
        error = failure(lambda: chat(DIALECTS[dialect](peer), wire))
    assert (error.code, error.retryable, error.retry_after_s, error.status) == ("rate_limited", True, 7.0, 429)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_no_error_repeats_the_prompt_or_the_key(wire: Wire, dialect: str, status: int) -> None:
    echo = f"I was sent {PROMPT} with {KEY}"
    with Peer(answer(status, {"error": {"message": echo}}), answer(200, {"error": {"message": echo}})) as peer:
        provider = DIALECTS[dialect](peer)
        errors = [failure(lambda: chat(provider, wire)), failure(lambda: chat(provider, wire))]
    for text in [*map(str, errors), *map(repr, errors), repr(provider)]:
        assert PROMPT[:12] not in text
        assert "0123456789" not in text


@pytest.mark.parametrize("dialect", ["ollama", "openai"])
def test_an_answer_nested_without_end_is_just_an_odd_answer(wire: Wire, dialect: str) -> None:
    odd = json.loads('{"a":' * 400 + "1" + "}" * 400)
    says = (
        ndjson({**said("ok"), "odd": odd}, DONE)
        if dialect == "ollama"
        else sse({**chunk("ok", finish="stop"), "odd": odd})
    )
    with Peer(says) as peer:
        reply, _ = chat(DIALECTS[dialect](peer), wire)
    assert (reply.text, reply.data["odd"]) == ("ok", odd)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_page_that_is_cut_short_still_has_its_status(wire: Wire, dialect: str) -> None:
    def half_a_page(line: Line) -> None:
        line.send(b"HTTP/1.1 401 No\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\nhalf a pa")
        line.close()

    with Peer(half_a_page) as peer:
        assert failure(lambda: chat(DIALECTS[dialect](peer), wire)).code == "unauthorized"


def test_what_was_said_stays_out_of_repr(wire: Wire) -> None:
    with Peer(ndjson(said("<think>canary-a</think>canary-b"), DONE)) as peer:
        reply, deltas = chat(ollama(peer), wire)
    assert (reply.thinking, reply.text) == ("canary-a", "canary-b")
    assert "canary" not in repr(reply) + repr(deltas)
