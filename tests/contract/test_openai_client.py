"""The official OpenAI client, unmodified, against a running server, a worker and a real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import openai
import psycopg
import pytest
from pydantic import BaseModel

import llm_mcp.actors  # noqa: F401 - what the worker can run
from llm_mcp import config
from llm_mcp import runtime as runtimes
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.worker import Worker
from tests.conftest import _database
from tests.integration.web.door import Door

from .device import Device, device

__all__ = ["device"]

FIRM: dict[str, Any] = {"temperature": 0, "seed": 7}
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}


@pytest.fixture(scope="module")
def jobs(
    postgres: EmbeddedPostgres, template: str, device: Device, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Jobs]:
    """The jobs service beside a worker whose models are the device's."""
    for dsn in _database(postgres, template):
        folder = tmp_path_factory.mktemp("openai")
        runtime = Runtime(config.load(db_dsn=dsn, data_dir=folder, ollama_base_url=device.url))
        runtimes.use(runtime)
        worker = Worker(runtime, threads=4)
        worker.start()
        yield Jobs(runtime)
        worker.drain(0.0)
        runtimes.use(None)
        runtime.close()


@pytest.fixture(scope="module")
def door(jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The server."""
    made = Door(jobs.runtime.settings, log=tmp_path_factory.mktemp("door") / "web.log")
    yield made
    made.close()


@pytest.fixture
def client(door: Door) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{door.url}/v1", api_key="none", timeout=60) as client:
        yield client


def test_a_chat_is_answered_and_counted(client: openai.OpenAI, jobs: Jobs) -> None:
    raw = client.chat.completions.with_raw_response.create(model="tiny", messages=HELLO, max_tokens=12, **FIRM)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    job = jobs.get(UUID(raw.headers["x-llm-mcp-job"]))
    assert (job.kind, job.source, job.status) == ("ollama.chat", "openai", "done")


def test_a_stream_is_the_same_answer_in_pieces(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_completion_tokens": 30, **FIRM}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    *said, last = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in said) == whole.choices[0].message.content
    assert said[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in said][-1] == "length"
    assert last.choices == []
    assert last.usage == whole.usage
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_the_clients_own_way_of_streaming_adds_up(client: openai.OpenAI) -> None:
    class Animal(BaseModel):
        legs: int
        tame: bool

    asked: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 300, "temperature": 1.0, "seed": 5}
    with client.chat.completions.stream(**asked, response_format=Animal) as stream:
        texts = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "".join(texts) != ""
    assert isinstance(final.choices[0].message.parsed, Animal)


def test_a_schema_is_held_to_and_parsed(client: openai.OpenAI) -> None:
    class Animal(BaseModel):
        legs: int
        tame: bool

    answer = client.chat.completions.parse(
        model="tiny", messages=HELLO, response_format=Animal, max_tokens=300, temperature=1.0, seed=3
    )
    assert answer.choices[0].finish_reason == "stop"
    assert isinstance(answer.choices[0].message.parsed, Animal)
    loose = client.chat.completions.create(
        model="tiny", messages=HELLO, response_format={"type": "json_object"}, max_tokens=60, temperature=1.0, seed=3
    )
    assert (loose.choices[0].message.content or "").lstrip().startswith("{")


def test_tools_are_called_whole_and_in_a_stream(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "caller",
        "tools": [ADD],
        "reasoning_effort": "none",
        "max_tokens": 1,
        **FIRM,
    }
    answer = client.chat.completions.create(messages=HELLO, **asked)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert call.function.name == "add"
    assert isinstance(json.loads(call.function.arguments)["a"], int)
    with client.chat.completions.stream(messages=HELLO, **asked) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls is not None
    assert final.choices[0].message.tool_calls[0].function.arguments == call.function.arguments
    # The call and its result go back as messages.
    history = [*HELLO, message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "3"}]
    again = client.chat.completions.create(messages=history, **asked)
    assert again.usage is not None
    assert answer.usage is not None
    assert again.usage.prompt_tokens > answer.usage.prompt_tokens


def test_thoughts_come_apart_from_the_answer(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "thinker", "messages": HELLO, "reasoning_effort": "low", "max_tokens": 1, **FIRM}
    message = client.chat.completions.create(**asked).choices[0].message
    assert message.content == "so it is"
    assert message.to_dict()["reasoning_content"].startswith("because ")
    deltas = [chunk.choices[0].delta.to_dict() for chunk in client.chat.completions.create(**asked, stream=True)]
    assert "".join(str(delta.get("reasoning_content", "")) for delta in deltas).startswith("because ")
    assert "".join(str(delta.get("content", "")) for delta in deltas) == "so it is"


def test_a_prompt_is_completed_the_older_way(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": "the cat", "max_tokens": 10, "temperature": 0}
    whole = client.completions.create(**asked)
    assert whole.choices[0].text
    pieces = list(client.completions.create(**asked, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    assert pieces[-1].choices[0].finish_reason == "length"


def test_vectors_come_as_the_client_asks_by_default_and_plainly(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="tiny-embed", input=["the cat", "the dog"])
    plain = client.embeddings.create(model="tiny-embed", input=["the cat", "the dog"], encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert packed.data[0].embedding != pytest.approx(packed.data[1].embedding)
    assert packed.usage.prompt_tokens == plain.usage.prompt_tokens > 0
    assert len(client.embeddings.create(model="tiny-embed", input="x", dimensions=8).data[0].embedding) == 8


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    named = {model.id for model in client.models.list()}
    assert named >= {"tiny:latest", "tiny-embed:latest", "caller:latest"}
    model = client.models.retrieve("tiny")
    assert (model.id, model.owned_by) == ("tiny:latest", "library")
    assert model.created > 0
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such")


def test_errors_are_the_clients_own_and_nothing_runs_twice(client: openai.OpenAI, jobs: Jobs) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nope", messages=HELLO)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="tiny", messages=HELLO, n=2)
    assert bad.value.param == "n"
    before = len(jobs.page(limit=200))
    with pytest.raises(openai.BadRequestError, match="does not support tools"):
        client.chat.completions.create(model="tiny", messages=HELLO, tools=[ADD], stream=True)
    with pytest.raises(openai.APIStatusError) as vectors:
        client.embeddings.create(model="tiny", input="x")
    assert vectors.value.status_code in (400, 501)
    assert len(jobs.page(limit=200)) == before + 2


def test_a_key_makes_a_repeated_call_the_same_job(client: openai.OpenAI) -> None:
    headers = {"Idempotency-Key": "the-same"}
    asked: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 8, "temperature": 1.0}
    first = client.chat.completions.create(**asked, extra_headers=headers)
    again = client.chat.completions.create(**asked, extra_headers=headers)
    assert first == again
    with pytest.raises(openai.UnprocessableEntityError):
        client.chat.completions.create(**{**asked, "max_tokens": 9}, extra_headers=headers)


def test_a_client_that_leaves_does_not_stop_its_job(client: openai.OpenAI, jobs: Jobs) -> None:
    stream = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=200, temperature=1.0, stream=True)
    next(iter(stream))
    job_id = UUID(stream.response.headers["x-llm-mcp-job"])
    stream.close()
    assert jobs.wait(job_id, timeout_s=60).status == "done"


def test_a_stream_that_breaks_is_the_clients_error(client: openai.OpenAI, jobs: Jobs) -> None:
    stream = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=1500, temperature=1.0, stream=True)
    pieces = iter(stream)
    next(pieces)
    jobs.cancel(UUID(stream.response.headers["x-llm-mcp-job"]))
    with pytest.raises(openai.APIError) as broken:
        list(pieces)
    assert broken.value.code == "cancelled"


def test_without_its_worker_a_call_ends_in_time(door: Door, jobs: Jobs, tmp_path: Path) -> None:
    settings = jobs.runtime.settings.model_copy(update={"call_timeout_s": 0.3})
    with psycopg.connect(jobs.runtime.dsn, autocommit=True) as conn:
        conn.execute("INSERT INTO llm.paused_queues (name) VALUES ('default')")
        quick = Door(settings, log=tmp_path / "web.log")
        try:
            with openai.OpenAI(base_url=f"{quick.url}/v1", api_key="none") as client:
                with pytest.raises(openai.InternalServerError) as late:
                    client.chat.completions.create(model="tiny", messages=HELLO)
                assert late.value.status_code == 504
                assert jobs.get(UUID(late.value.response.headers["x-llm-mcp-job"])).status == "queued"
        finally:
            quick.close()
            conn.execute("DELETE FROM llm.paused_queues")
