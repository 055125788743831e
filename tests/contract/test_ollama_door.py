"""The official Ollama client, unmodified, against our door with a worker and real inference behind it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import ollama
import pytest
from pydantic import BaseModel

from llm_mcp.embedded.postgres import EmbeddedPostgres
from tests.waiting import until

from .device import Device, ask, device
from .fronted import Front, fronting

__all__ = ["device"]

FIRM = {"temperature": 0, "seed": 7}
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def front(
    postgres: EmbeddedPostgres, template: str, device: Device, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    with fronting(postgres, template, device, tmp_path_factory.mktemp("front")) as made:
        yield made


@pytest.fixture
def client(front: Front) -> Iterator[ollama.Client]:
    with ollama.Client(host=front.url, timeout=60) as client:
        yield client


def test_list_show_and_ps_tell_what_the_device_has(client: ollama.Client, device: Device) -> None:
    listed = {model.model: model for model in client.list().models}
    assert set(listed) >= {"tiny:latest", "tiny-embed:latest", "caller:latest"}
    shown = client.show("tiny")
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 2048
    client.generate("tiny", "hello", options={"num_predict": 1})
    (running,) = until(lambda: [model for model in client.ps().models if model.model == "tiny:latest"])
    assert running.context_length == 2048
    assert running.expires_at is not None
    assert 280 < running.expires_at.timestamp() - time.time() <= 301


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/tags"), ("GET", "/api/version"), ("GET", "/")])
def test_what_is_asked_without_a_body_is_answered_as_the_device_does(
    front: Front, device: Device, method: str, path: str
) -> None:
    ours, its = (ask(where, method, path) for where in (front, device))
    assert (ours.status, ours.body, ours.headers["Content-Type"]) == (its.status, its.body, its.headers["Content-Type"])
    head = ask(front, "HEAD", path)
    assert (head.status, head.body) == (200, b"")


def test_show_is_the_devices_own(front: Front, device: Device) -> None:
    for body in ({"model": "tiny"}, {"name": "tiny-embed:latest"}, {"model": "registry.ollama.ai/library/tiny"}):
        ours, its = (ask(where, "POST", "/api/show", body).json for where in (front, device))
        assert ours == its


def test_generate_counts_the_tokens_it_makes(client: ollama.Client) -> None:
    answer = client.generate("tiny", "the cat", options={**FIRM, "num_predict": 12})
    assert answer.response
    assert answer.model == "tiny"
    assert (answer.eval_count, answer.done, answer.done_reason) == (12, True, "length")
    assert answer.context is not None
    assert answer.prompt_eval_count is not None
    assert len(answer.context) == answer.prompt_eval_count + 12
    assert answer.total_duration is not None
    assert answer.eval_duration is not None
    assert answer.load_duration is not None
    assert 0 < answer.eval_duration < answer.total_duration


def test_an_answer_and_its_stream_are_the_devices(front: Front, device: Device) -> None:
    for path, asked in (
        ("/api/generate", {"prompt": "one two three"}),
        ("/api/chat", {"messages": HELLO}),
        ("/api/chat", {"model": "thinker", "messages": HELLO, "think": True, "options": {**FIRM, "num_predict": 1}}),
    ):
        body = {"model": "tiny", "options": {**FIRM, "num_predict": 30}, **asked}
        ours, its = (ask(where, "POST", path, {**body, "stream": False}).json for where in (front, device))
        assert told(ours) == told(its)
        streamed, whole = (ask(where, "POST", path, body) for where in (front, device))
        assert streamed.headers["Content-Type"] == whole.headers["Content-Type"]
        assert told(streamed.lines[-1]) == told(whole.lines[-1])
        assert joined(streamed.lines) == joined(whole.lines)
        assert all(shape(line) <= shape(whole.lines[0]) | {"thinking"} for line in streamed.lines[:-1])


def told(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer without its instants and durations, of which only the names count."""
    measured = {name for name in answer if name.endswith("_duration")}
    return {name: value for name, value in answer.items() if name != "created_at" and name not in measured} | {
        "measured": sorted(measured)
    }


def joined(lines: list[dict[str, Any]]) -> tuple[str, str]:
    said = [line.get("message", line) for line in lines]
    return (
        "".join(each.get("content", each.get("response", "")) for each in said),
        "".join(each.get("thinking", "") for each in said),
    )


def shape(line: dict[str, Any]) -> set[str]:
    return set(line) | set(line.get("message", {}))


def test_a_call_is_a_job(front: Front) -> None:
    answer = ask(front, "POST", "/api/chat", {"model": "tiny", "messages": HELLO, "options": {"num_predict": 1}})
    job = front.jobs.get(UUID(answer.headers["x-llm-mcp-job"]))
    assert (job.kind, job.source, job.status) == ("ollama.chat", "ollama", "done")
    assert json.loads(job.payload or "")["device_id"] == "local"


def test_a_schema_is_held_to(client: ollama.Client) -> None:
    class Animal(BaseModel):
        name: str
        legs: int

    schema = Animal.model_json_schema()
    schema["properties"]["name"]["maxLength"] = 8
    answer = client.chat("tiny", HELLO, format=schema, options={"seed": 3, "temperature": 1.0, "num_predict": 300})
    assert answer.done_reason == "stop"
    Animal.model_validate_json(answer.message.content or "")
    loose = client.generate("tiny", "hello", format="json", options={"seed": 3, "num_predict": 60})
    assert (loose.response or "").lstrip().startswith("{")


def test_tools_are_called(client: ollama.Client) -> None:
    def add(a: int) -> int:
        """Add."""
        return a

    options = {**FIRM, "num_predict": 1}
    answer = client.chat("caller", HELLO, tools=[add], think=False, options=options)
    assert answer.message.tool_calls
    call = answer.message.tool_calls[0].function
    assert call.name == "add"
    assert isinstance(call.arguments["a"], int)
    *pieces, last = client.chat("caller", HELLO, tools=[add], think=False, options=options, stream=True)
    assert [piece.message.content for piece in pieces] == [""]
    assert pieces[0].message.tool_calls == [answer.message.tool_calls[0]]
    assert last.done
    assert not last.message.tool_calls
    history: list[Any] = [*HELLO, answer.message, {"role": "tool", "tool_name": "add", "content": "3"}]
    again = client.chat("caller", history, tools=[add], think=False, options=options)
    assert (again.prompt_eval_count or 0) > (answer.prompt_eval_count or 0)


def test_thoughts_come_apart_from_the_answer(client: ollama.Client) -> None:
    options = {**FIRM, "num_predict": 1}
    chat = client.chat("thinker", HELLO, think=True, options=options)
    assert (chat.message.thinking or "").startswith("because ")
    assert chat.message.content == "so it is"
    pieces = list(client.chat("thinker", HELLO, think=True, options=options, stream=True))
    assert [bool(piece.message.thinking) for piece in pieces] == [True, False, False]


def test_vectors_have_length_one_and_tell_texts_apart(client: ollama.Client) -> None:
    answer = client.embed("tiny-embed", ["the cat", "the dog", "the cat"])
    first, second, third = answer.embeddings
    assert first == pytest.approx(third)
    assert first != pytest.approx(second)
    assert math.hypot(*first) == pytest.approx(1)
    assert answer.prompt_eval_count == 3 * (1 + len(" the cat"))
    assert answer.total_duration
    assert len(client.embed("tiny-embed", "the cat", dimensions=8).embeddings[0]) == 8
    assert client.embeddings("tiny-embed", "the cat").embedding == pytest.approx(first)
    assert client.embed("tiny-embed", []).embeddings == []
    assert client.embeddings("tiny-embed", "").embedding == []


def test_errors_carry_status_and_words(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as missing:
        client.generate("nope", "hello")
    assert (missing.value.status_code, missing.value.error) == (404, "model 'nope' not found")
    with pytest.raises(ollama.ResponseError) as streamed:
        list(client.chat("tiny-embed", HELLO, stream=True))
    assert (streamed.value.status_code, streamed.value.error) == (400, '"tiny-embed" does not support chat')
    with pytest.raises(ollama.ResponseError) as mistaken:
        client.embed("tiny", "hello")
    assert mistaken.value.status_code == 501
    managing: list[Callable[[], object]] = [
        lambda: client.pull("tiny"),
        lambda: client.delete("tiny"),
        lambda: client.copy("tiny", "other"),
    ]
    for manage in managing:
        with pytest.raises(ollama.ResponseError) as managed:
            manage()
        assert managed.value.status_code == 501
        assert "managed on the devices" in managed.value.error


def test_a_client_that_leaves_leaves_its_job_at_work(client: ollama.Client, front: Front) -> None:
    stream = client.generate("tiny", "the cat", options={**FIRM, "num_predict": 100}, stream=True)
    next(stream)
    stream.close()  # type: ignore[attr-defined] # typed as an iterator, and is a generator
    newest = front.jobs.page(limit=1)[0]
    until(lambda: front.jobs.get(newest.id).status == "done", timeout_s=90)
    result = json.loads(front.jobs.get(newest.id).result or "")
    assert result["data"]["eval_count"] == 100


def test_loading_and_unloading_is_told_and_done(client: ollama.Client, device: Device) -> None:
    assert client.generate("tiny", "", keep_alive="10m").done_reason == "load"
    assert "tiny:latest" in device.loaded()
    assert client.generate("tiny", "", keep_alive=0).done_reason == "unload"
    assert "tiny:latest" not in device.loaded()
    loaded = client.chat("tiny", [])
    assert (loaded.done_reason, loaded.message.content) == ("load", "")
    assert "tiny:latest" in device.loaded()
    client.chat("tiny", HELLO, options={"num_predict": 1}, keep_alive=0)
    until(lambda: "tiny:latest" not in device.loaded())
