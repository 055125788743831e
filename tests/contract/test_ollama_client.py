"""The official Ollama client, unmodified, against the embedded device."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ollama
import pytest
from pydantic import BaseModel

from tests.waiting import until

from .device import Device, device

__all__ = ["device"]

FIRM = {"temperature": 0, "seed": 7}


@pytest.fixture
def client(device: Device) -> Iterator[ollama.Client]:
    with ollama.Client(host=device.url, timeout=60) as client:
        yield client


def test_list_show_and_ps_tell_what_is_there(client: ollama.Client) -> None:
    listed = {model.model: model for model in client.list().models}
    assert set(listed) >= {"tiny:latest", "tiny-embed:latest"}
    assert listed["tiny:latest"].details is not None
    assert listed["tiny:latest"].details.family == "llama"
    shown = client.show("tiny")
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 2048
    client.generate("tiny", "hello", options={"num_predict": 1})
    (running,) = (model for model in client.ps().models if model.model == "tiny:latest")
    assert running.context_length == 2048
    assert running.expires_at is not None
    assert 290 < running.expires_at.timestamp() - time.time() <= 301


def test_generate_counts_the_tokens_it_makes(client: ollama.Client) -> None:
    answer = client.generate("tiny", "the cat", options={**FIRM, "num_predict": 12})
    assert answer.response
    assert (answer.eval_count, answer.done, answer.done_reason) == (12, True, "length")
    assert answer.context is not None
    assert answer.prompt_eval_count is not None
    assert len(answer.context) == answer.prompt_eval_count + 12
    assert answer.total_duration is not None
    assert answer.eval_duration is not None
    assert 0 < answer.eval_duration < answer.total_duration


def test_a_stream_is_the_same_answer_in_pieces(client: ollama.Client) -> None:
    options = {**FIRM, "num_predict": 40}
    whole = client.generate("tiny", "one two three", options=options)
    pieces = list(client.generate("tiny", "one two three", options=options, stream=True))
    assert "".join(piece.response or "" for piece in pieces) == whole.response
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert len(pieces) > 10
    assert pieces[-1].eval_count == whole.eval_count == 40


def test_chat_answers_and_streams(client: ollama.Client) -> None:
    messages = [{"role": "system", "content": "be a cat"}, {"role": "user", "content": "hello"}]
    whole = client.chat("tiny", messages, options={**FIRM, "num_predict": 20})
    pieces = list(client.chat("tiny", messages, options={**FIRM, "num_predict": 20}, stream=True))
    assert whole.message.role == "assistant"
    assert whole.message.content
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert whole.eval_count == pieces[-1].eval_count == 20


def test_the_same_seed_says_the_same_and_another_something_else(client: ollama.Client) -> None:
    def said(seed: int) -> str:
        options = {"seed": seed, "temperature": 1.0, "num_predict": 30}
        return client.generate("tiny", "the happy dog", options=options).response or ""

    assert said(1) == said(1)
    assert said(1) != said(2)


def test_a_schema_is_held_to(client: ollama.Client) -> None:
    class Animal(BaseModel):
        name: str
        legs: int
        tame: bool | None

    schema = Animal.model_json_schema()
    schema["properties"]["name"]["maxLength"] = 8
    for seed in range(4):
        options = {"seed": seed, "temperature": 1.0, "num_predict": 300}
        answer = client.chat("tiny", [{"role": "user", "content": "hello"}], format=schema, options=options)
        assert answer.done_reason == "stop"
        Animal.model_validate_json(answer.message.content or "")


def test_tools_are_called(client: ollama.Client) -> None:
    def add(a: int) -> int:
        """Add."""
        return a

    question = [{"role": "user", "content": "hello"}]
    answer = client.chat("caller", question, tools=[add], think=False, options={**FIRM, "num_predict": 1})
    assert answer.message.tool_calls
    call = answer.message.tool_calls[0].function
    assert call.name == "add"
    assert isinstance(call.arguments["a"], int)
    *pieces, last = client.chat(
        "caller", question, tools=[add], think=False, options={**FIRM, "num_predict": 1}, stream=True
    )
    assert [piece.message.content for piece in pieces] == [""]
    assert pieces[0].message.tool_calls == [answer.message.tool_calls[0]]
    assert last.done
    # The call and its result go back as messages.
    history: list[Any] = [*question, answer.message, {"role": "tool", "tool_name": "add", "content": "3"}]
    again = client.chat("caller", history, tools=[add], think=False, options={**FIRM, "num_predict": 1})
    assert (again.prompt_eval_count or 0) > (answer.prompt_eval_count or 0)


def test_thoughts_come_apart_from_the_answer(client: ollama.Client) -> None:
    question = [{"role": "user", "content": "hello"}]
    chat = client.chat("thinker", question, think=True, options={**FIRM, "num_predict": 1})
    assert (chat.message.thinking or "").startswith("because ")
    assert chat.message.content == "so it is"
    generated = client.generate("thinker", "hello", options={**FIRM, "num_predict": 1})
    assert (generated.thinking or "").startswith("because ")
    assert generated.response == "so it is"
    pieces = list(client.chat("thinker", question, think=True, options={**FIRM, "num_predict": 1}, stream=True))
    assert [bool(piece.message.thinking) for piece in pieces] == [True, False, False]


def test_vectors_have_length_one_and_tell_texts_apart(client: ollama.Client) -> None:
    answer = client.embed("tiny-embed", ["the cat", "the dog", "the cat"])
    first, second, third = answer.embeddings
    assert first == pytest.approx(third)
    assert first != pytest.approx(second)
    assert all(math.hypot(*vector) == pytest.approx(1) for vector in answer.embeddings)
    # The tiny vocabulary spells: a token for the beginning, one for each character, one for the space before.
    assert answer.prompt_eval_count == 3 * (1 + len(" the cat"))
    short = client.embed("tiny-embed", "the cat", dimensions=8).embeddings[0]
    assert len(short) == 8
    assert math.hypot(*short) == pytest.approx(1)
    assert client.embeddings("tiny-embed", "the cat").embedding == pytest.approx(first)


def test_errors_carry_status_and_words(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as missing:
        client.generate("nope", "hello")
    assert (missing.value.status_code, missing.value.error) == (404, "model 'nope' not found")
    with pytest.raises(ollama.ResponseError) as streamed:
        list(client.chat("tiny-embed", [{"role": "user", "content": "hello"}], stream=True))
    assert (streamed.value.status_code, streamed.value.error) == (400, '"tiny-embed" does not support chat')
    with pytest.raises(ollama.ResponseError) as mistaken:
        client.embed("tiny", "hello")
    assert mistaken.value.status_code == 501


def test_a_closed_stream_stops_the_model_and_frees_it(client: ollama.Client) -> None:
    options = {**FIRM, "num_predict": 20_000}
    stream = client.generate("tiny", "the cat", options=options, stream=True)
    for _ in range(5):
        next(stream)
    began = time.monotonic()
    stream.close()  # type: ignore[attr-defined] # typed as an iterator, and is a generator
    assert client.generate("tiny", "hello", options={"num_predict": 1}).eval_count == 1
    # Twenty thousand tokens would take longer on any machine.
    assert time.monotonic() - began < 5.0


def test_requests_at_once_are_answered_one_after_another(client: ollama.Client) -> None:
    def said(seed: int) -> ollama.GenerateResponse:
        return client.generate("tiny", "we said", options={"seed": seed, "temperature": 1.0, "num_predict": 30})

    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(said, range(12)))
    assert [answer.response for answer in together] == [said(seed).response for seed in range(12)]


def test_keep_alive_zero_unloads(client: ollama.Client) -> None:
    def loaded() -> set[str]:
        return {model.model or "" for model in client.ps().models}

    assert client.generate("tiny", "", keep_alive="10m").done_reason == "load"
    assert "tiny:latest" in loaded()
    assert client.generate("tiny", "", keep_alive=0).done_reason == "unload"
    assert "tiny:latest" not in loaded()
    client.chat("tiny", [{"role": "user", "content": "hello"}], options={"num_predict": 1}, keep_alive=0)
    until(lambda: "tiny:latest" not in loaded())
