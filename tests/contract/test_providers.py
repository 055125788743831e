"""The contract of a provider: one suite, run on every provider we ship.

Ollama's is run against the embedded device, OpenAI's dialect against llama.cpp's own server: real tokens both times.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr

from llm_mcp.errors import Cut, ProviderError
from llm_mcp.http import Wire
from llm_mcp.providers.base import Delta, Provider, Reply
from llm_mcp.providers.fake import Fail, Fake, Pause, Text, Used
from llm_mcp.providers.ollama import Ollama
from llm_mcp.providers.openai import OpenAI
from llm_mcp.providers.openrouter import OpenRouter

from .provider_peer import Peer, answer
from .provider_servers import Server, llama_server, ollama_device

SOON_S = 1.0
PROMPT = "one red cat sat on"
VERBS = ("generate", "chat")
CLOUDS = {"openai": OpenAI, "openrouter": OpenRouter}


@dataclass(frozen=True)
class Case:
    """A provider under test: one that writes, one that embeds, one that must fail, and how to make it hang."""

    writer: Provider
    embedder: Provider
    stranger: Provider
    """Does not know the model `nope`."""
    lost: Provider
    """Nobody listens at its address."""
    whole: Callable[[str, dict[str, Any]], dict[str, Any]] | None
    """The server's own answer to a verb and its options when it is asked not to stream."""
    counts: Callable[[dict[str, Any]], tuple[int, int]]
    """Tokens in and out, where the provider's JSON has them."""
    frozen: Callable[[], AbstractContextManager[None]]
    hung: Provider = field(repr=False)
    """The writer once more, as it is while frozen."""


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as got:
        parsed: dict[str, Any] = json.load(got)
    return parsed


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with ollama_device(tmp_path_factory.mktemp("device")) as server:
        yield server


@pytest.fixture(scope="module")
def text_server() -> Iterator[Server]:
    with llama_server("text") as server:
        yield server


@pytest.fixture(scope="module")
def embed_server() -> Iterator[Server]:
    with llama_server("embed") as server:
        yield server


@pytest.fixture(scope="module")
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(scope="module")
def strict_cloud() -> Iterator[str]:
    """A server that knows no model: llama.cpp's takes any name for its own."""
    words = {"message": "The model `nope` does not exist", "type": "invalid_request_error", "code": "model_not_found"}
    with Peer(answer(404, {"error": words})) as peer:
        yield peer.url


def ollama_case(device: Server, nowhere: str) -> Case:
    def whole(verb: str, options: dict[str, Any]) -> dict[str, Any]:
        given = {"prompt": PROMPT} if verb == "generate" else {"messages": [{"role": "user", "content": PROMPT}]}
        return post(f"{device.url}/api/{verb}", {"model": "tiny", "stream": False, "options": options, **given})

    provider = Ollama(device.url, default_model="tiny", default_embed_model="tiny-embed")
    return Case(
        writer=provider,
        embedder=provider,
        stranger=provider,
        lost=Ollama(nowhere, default_model="tiny", default_embed_model="tiny-embed"),
        whole=whole,
        counts=lambda data: (data["prompt_eval_count"], data["eval_count"]),
        frozen=device.frozen,
        hung=provider,
    )


def cloud_case(name: str, text: Server, embed: Server, strict: str, nowhere: str) -> Case:
    def at(url: str) -> Provider:
        return CLOUDS[name](f"{url}/v1", SecretStr("k"), default_model="tiny", default_embed_model="tiny-embed")

    def whole(verb: str, options: dict[str, Any]) -> dict[str, Any]:
        asked = {"temperature": options["temperature"], "max_tokens": options["num_predict"]}
        return post(f"{text.url}/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}], **asked})

    return Case(
        writer=at(text.url),
        embedder=at(embed.url),
        stranger=at(strict),
        lost=at(nowhere),
        whole=whole,
        counts=lambda data: (data["usage"]["prompt_tokens"], data["usage"]["completion_tokens"]),
        frozen=text.frozen,
        hung=at(text.url),
    )


def fake_case() -> Case:
    unreachable = ProviderError("fake: nobody is there", retryable=True, code="unreachable")
    writer = Fake([Text("one "), Text("two "), Text("three"), Used(tokens_in=5, tokens_out=3)])
    return Case(
        writer=writer,
        embedder=writer,
        stranger=writer,
        lost=Fake([Fail(unreachable)]),
        whole=None,
        counts=lambda data: (data["prompt_eval_count"], data["eval_count"]),
        frozen=nullcontext,
        hung=Fake([Pause()], [Text("one"), Pause(), Text("never")]),
    )


@pytest.fixture(scope="module", params=["ollama", "openai", "openrouter", "fake"])
def case(request: pytest.FixtureRequest) -> Case:
    def get(name: str) -> Any:
        return request.getfixturevalue(name)

    match request.param:
        case "ollama":
            return ollama_case(get("device"), get("nowhere"))
        case "fake":
            return fake_case()
    servers = [get(name) for name in ("text_server", "embed_server", "strict_cloud", "nowhere")]
    return cloud_case(request.param, *servers)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire(read_timeout_s=30)
    yield made
    made.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def write(provider: Provider, verb: str, wire: Wire, **asked: Any) -> tuple[Reply, list[Delta]]:
    deltas: list[Delta] = []
    call = provider.generate if verb == "generate" else provider.chat
    reply = call({"prompt": PROMPT, "max_tokens": 24, "temperature": 0, **asked}, wire=wire, on_delta=deltas.append)
    return reply, deltas


def failure(call: Callable[[], object]) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        call()
    return caught.value


# — what a call gives —


@pytest.mark.parametrize("verb", VERBS)
def test_text_comes_in_several_pieces_that_add_up(case: Case, wire: Wire, verb: str) -> None:
    reply, deltas = write(case.writer, verb, wire)
    assert len([delta for delta in deltas if delta.text]) >= 3
    assert "".join(delta.text for delta in deltas) == reply.text != ""
    assert "".join(delta.thinking for delta in deltas) == reply.thinking


@pytest.mark.parametrize("verb", VERBS)
def test_usage_is_what_the_provider_counted(case: Case, wire: Wire, verb: str) -> None:
    reply, _ = write(case.writer, verb, wire)
    used = (reply.usage.tokens_in, reply.usage.tokens_out)
    assert used == case.counts(reply.data)
    assert min(used) > 0
    assert reply.usage.tokens_out <= 24


@pytest.mark.parametrize("verb", VERBS)
def test_data_is_what_the_server_says_when_it_does_not_stream(case: Case, wire: Wire, verb: str) -> None:
    if case.whole is None:
        pytest.skip("a fake has no server to ask")
    reply, _ = write(case.writer, verb, wire)
    whole = case.whole(verb, {"temperature": 0, "num_predict": 24})
    assert shape(reply.data) == shape(whole)
    assert case.counts(reply.data) == case.counts(whole)
    assert texts(reply.data) == texts(whole) == [reply.text]


def shape(value: Any) -> Any:
    """Return an answer's names and sorts of values; a server may count what it had cached or not."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items() if name != "timings"}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def texts(data: dict[str, Any]) -> list[str]:
    """Return what clients read: `response`, `message.content` and `choices[0].message.content`."""
    messages = [data.get("message"), *(choice["message"] for choice in data.get("choices", []))]
    return [*([data["response"]] if "response" in data else []), *(said["content"] for said in messages if said)]


def test_the_model_is_the_one_asked_for(case: Case, wire: Wire) -> None:
    named = case.writer.models(wire=wire)[0].name
    assert write(case.writer, "chat", wire, model=named)[0].model == named


def test_models_are_listed(case: Case, wire: Wire) -> None:
    models = [*case.writer.models(wire=wire), *case.embedder.models(wire=wire)]
    assert any(model.embeds for model in models)
    assert any(not model.embeds for model in models)


def test_one_prompt_becomes_one_vector(case: Case, wire: Wire) -> None:
    reply = case.embedder.embed({"prompt": PROMPT}, wire=wire)
    vector = reply.data["embedding"]
    assert len(vector) >= 8
    assert all(isinstance(number, float) for number in vector)
    assert reply.usage.tokens_in > 0
    assert reply.text == ""


def test_many_texts_become_as_many_vectors_in_their_order(case: Case, wire: Wire) -> None:
    reply = case.embedder.embed({"input": [PROMPT, "the moon"]}, wire=wire)
    vectors = reply.data.get("embeddings") or [item["embedding"] for item in reply.data["data"]]
    alone = [case.embedder.embed({"input": text}, wire=wire).data["embedding"] for text in (PROMPT, "the moon")]
    assert [pytest.approx(vector, abs=1e-4) for vector in vectors] == alone
    assert alone[0] != pytest.approx(alone[1], abs=1e-4)
    assert "embedding" not in reply.data


def test_a_payload_is_only_read(case: Case, wire: Wire) -> None:
    asked = {"messages": [{"role": "user", "content": PROMPT}], "options": {"system": "be brief"}, "max_tokens": 3}
    before = json.dumps(asked)
    case.writer.chat(asked, wire=wire, on_delta=lambda _: None)
    assert json.dumps(asked) == before


def test_threads_share_a_provider(case: Case, pool: ThreadPoolExecutor) -> None:
    def one() -> str:
        wire = Wire(read_timeout_s=30)
        try:
            return write(case.writer, "chat", wire)[0].text
        finally:
            wire.close()

    assert len({call.result(30) for call in [pool.submit(one) for _ in range(4)]}) == 1


# — how a call fails —


@pytest.mark.parametrize("verb", [*VERBS, "embed"])
def test_an_unknown_model_is_not_found_however_often_one_asks(case: Case, wire: Wire, verb: str) -> None:
    if verb == "embed":
        error = failure(lambda: case.stranger.embed({"model": "nope", "prompt": PROMPT}, wire=wire))
    else:
        error = failure(lambda: write(case.stranger, verb, wire, model="nope"))
    assert (error.code, error.retryable, error.status) == ("not_found", False, 404)
    assert "nope" in str(error)


@pytest.mark.parametrize("verb", [*VERBS, "embed"])
def test_nobody_at_the_address_is_worth_another_try(case: Case, wire: Wire, verb: str) -> None:
    if verb == "embed":
        error = failure(lambda: case.lost.embed({"prompt": PROMPT}, wire=wire))
    else:
        error = failure(lambda: write(case.lost, verb, wire))
    assert (error.code, error.retryable) == ("unreachable", True)


# — how a call is stopped —


def assert_cut(running: Future[Any], cut: Callable[[], None]) -> None:
    cut()
    started = time.monotonic()
    with pytest.raises(Cut):
        running.result(20)
    assert time.monotonic() - started < SOON_S


def test_a_cut_before_the_first_piece(case: Case, wire: Wire, pool: ThreadPoolExecutor) -> None:
    """The wait for the first token is the longest: the model is loaded and the prompt read."""
    with case.frozen():
        cut = wire.arm()
        running = pool.submit(write, case.hung, "chat", wire)
        with pytest.raises(TimeoutError):
            running.result(0.3)
        assert_cut(running, cut)
    wire.arm()
    assert write(case.writer, "chat", wire)[0].text


def test_a_cut_between_two_pieces(case: Case, wire: Wire, pool: ThreadPoolExecutor) -> None:
    first, frozen = threading.Event(), threading.Event()

    def on_delta(_: Delta) -> None:
        if not first.is_set():
            first.set()
            assert frozen.wait(10)

    asked = {"prompt": PROMPT, "max_tokens": 1500, "temperature": 1.0}
    cut = wire.arm()
    running = pool.submit(lambda: case.hung.generate(asked, wire=wire, on_delta=on_delta))
    assert first.wait(10)
    with case.frozen():
        frozen.set()
        assert_cut(running, cut)
    wire.arm()
    assert write(case.writer, "generate", wire)[0].text


@pytest.mark.parametrize("verb", VERBS)
def test_no_piece_comes_after_a_cut(case: Case, wire: Wire, verb: str) -> None:
    deltas: list[Delta] = []

    def on_delta(delta: Delta) -> None:
        deltas.append(delta)
        wire.cut()

    call = case.writer.generate if verb == "generate" else case.writer.chat
    with pytest.raises(Cut):
        call({"prompt": PROMPT, "max_tokens": 24}, wire=wire, on_delta=on_delta)
    assert len(deltas) == 1


def test_a_cut_wire_calls_nobody_until_it_is_armed(case: Case, wire: Wire) -> None:
    wire.cut()
    calls: list[Callable[[], object]] = [
        lambda: write(case.writer, "chat", wire),
        lambda: case.embedder.embed({"prompt": PROMPT}, wire=wire),
        lambda: case.writer.models(wire=wire),
    ]
    for call in calls:
        with pytest.raises(Cut):
            call()
    wire.arm()
    assert write(case.writer, "chat", wire)[0].text


def test_who_takes_the_pieces_may_stop_the_call(case: Case, wire: Wire) -> None:
    class EnoughError(Exception):
        pass

    def enough(_: Delta) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        case.writer.generate({"prompt": PROMPT, "max_tokens": 1500}, wire=wire, on_delta=enough)
    assert write(case.writer, "generate", wire)[0].text
