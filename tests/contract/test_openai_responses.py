"""The official OpenAI client, unmodified: responses, files and batches with a real server, worker and model."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel

from tests.contract.test_openai_client import ADD, FIRM, client, door, jobs
from tests.waiting import until

from .device import Device, device

__all__ = ["client", "device", "door", "jobs"]

TOOL: Any = {"type": "function", **ADD["function"], "strict": False}


def test_a_response_is_answered_and_kept(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "input": "hello", "max_output_tokens": 12, **_firm()}
    response = client.responses.create(**asked)
    assert response.output_text
    assert (response.status, response.incomplete_details and response.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    assert response.usage is not None
    assert response.usage.output_tokens == 12
    assert client.responses.retrieve(response.id) == response
    items = client.responses.input_items.list(response.id).data
    assert [item.type for item in items] == ["message"]
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def _firm() -> dict[str, Any]:
    return {"temperature": 0, "extra_body": {"seed": FIRM["seed"]}}


def test_a_stream_adds_up(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "input": "hello", "max_output_tokens": 40, **_firm()}
    whole = client.responses.create(**asked)
    found: list[ResponseStreamEvent] = list(client.responses.create(**asked, stream=True))
    assert [event.sequence_number for event in found] == list(range(len(found)))
    text = "".join(event.delta for event in found if event.type == "response.output_text.delta")
    assert text == whole.output_text
    last = found[-1]
    assert last.type == "response.incomplete"
    assert last.response.output_text == text


def test_the_clients_own_way_of_streaming_holds_to_a_schema(client: openai.OpenAI) -> None:
    class Animal(BaseModel):
        legs: int
        tame: bool

    asked: dict[str, Any] = {"model": "tiny", "input": "hello", "max_output_tokens": 300, "temperature": 1.0}
    with client.responses.stream(**asked, text_format=Animal, extra_body={"seed": 3}) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.output_text == text != ""
    assert isinstance(final.output_parsed, Animal)
    parsed = client.responses.parse(**asked, text_format=Animal, extra_body={"seed": 3})
    assert isinstance(parsed.output_parsed, Animal)


def test_in_the_background_it_is_polled_resumed_and_cancelled(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "input": "hello", "background": True, **_firm()}
    response = client.responses.create(**asked, max_output_tokens=20)
    assert response.status == "queued"
    done = until(lambda: (found := client.responses.retrieve(response.id)).status == "incomplete" and found)
    assert isinstance(done, openai.types.responses.Response)
    full = list(client.responses.retrieve(response.id, stream=True))
    for place in (0, 2, len(full) // 2, len(full) - 2):
        rest = list(client.responses.retrieve(response.id, stream=True, starting_after=place))
        assert rest == full[place + 1 :]
    endless = client.responses.create(**asked, max_output_tokens=20_000)
    until(lambda: client.responses.retrieve(endless.id).status == "in_progress")
    assert client.responses.cancel(endless.id).status == "cancelled"
    assert client.responses.cancel(endless.id).status == "cancelled"


def test_functions_are_called_and_answered(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "caller",
        "input": "hello",
        "tools": [TOOL],
        "reasoning": {"effort": "none"},
        "max_output_tokens": 1,
        **_firm(),
    }
    response = client.responses.create(**asked)
    (call,) = (item for item in response.output if item.type == "function_call")
    assert call.name == "add"
    json.loads(call.arguments)
    (streamed,) = (
        event
        for event in client.responses.create(**asked, stream=True)
        if event.type == "response.function_call_arguments.done"
    )
    assert streamed.arguments == call.arguments
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "3"}
    further = client.responses.create(
        model="tiny", input=[output], previous_response_id=response.id, max_output_tokens=5
    )
    assert further.previous_response_id == response.id
    assert further.output_text


def test_a_conversation_by_handing_the_output_back(client: openai.OpenAI) -> None:
    first = client.responses.create(model="tiny", input="hello", max_output_tokens=5)
    history: list[Any] = [{"role": "user", "content": "hello"}, *(item.model_dump() for item in first.output)]
    second = client.responses.create(
        model="tiny", input=[*history, {"role": "user", "content": "more"}], max_output_tokens=5
    )
    assert second.output_text


def test_a_batch_of_a_file(client: openai.OpenAI) -> None:
    lines: list[dict[str, Any]] = [
        {
            "custom_id": f"r{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, **FIRM},
        }
        for n in range(5)
    ]
    lines[3]["body"] = {"model": "nobody-has-this", "messages": [{"role": "user", "content": "hello"}]}
    data = "\n".join(json.dumps(line) for line in lines).encode()
    file = client.files.create(file=("in.jsonl", data), purpose="batch")
    assert client.files.content(file.id).read() == data
    assert client.files.retrieve(file.id) == file
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
    )
    assert batch.id in [one.id for one in client.batches.list()]
    done = until(lambda: (found := client.batches.retrieve(batch.id)).status == "completed" and found, timeout_s=60)
    assert isinstance(done, openai.types.Batch)
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 5, "completed": 4, "failed": 1}
    assert done.output_file_id is not None
    assert done.error_file_id is not None
    answers = [json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()]
    assert [one["custom_id"] for one in answers] == ["r0", "r1", "r2", "r4"]
    whole = client.chat.completions.create(**lines[0]["body"])
    for one in answers:
        assert one["response"]["body"]["choices"][0]["message"]["content"] == whole.choices[0].message.content
    (failed,) = (json.loads(line) for line in client.files.content(done.error_file_id).text.splitlines())
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("r3", 404)
    assert {one.id for one in client.files.list(purpose="batch_output")} >= {done.output_file_id, done.error_file_id}
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_vectors_by_a_batch(client: openai.OpenAI, device: Device) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "tiny-embed", "input": "x"}}
    file = client.files.create(file=("in.jsonl", json.dumps(line).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    until(lambda: client.batches.retrieve(batch.id).status == "completed", timeout_s=60)
    output = client.batches.retrieve(batch.id).output_file_id
    assert output is not None
    (one,) = (json.loads(line) for line in client.files.content(output).text.splitlines())
    whole = client.embeddings.create(model="tiny-embed", input="x", encoding_format="float")
    assert one["response"]["body"]["data"][0]["embedding"] == pytest.approx(whole.data[0].embedding)
