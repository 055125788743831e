"""Responses in whole: what is asked of the model, and what its answer is shown as."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from llm_mcp.errors import ProviderError
from llm_mcp.providers.fake import Fail, Pause, Text, Thinking, ToolCall, Used
from tests.integration.web.responses.conftest import Play
from tests.waiting import until

LOOK = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": True}
PICTURE = "data:image/png;base64,AAAA"


def test_an_answer_has_its_items_its_usage_and_its_request(play: Play) -> None:
    stage = play([Thinking("hm"), Text("Hel"), Text("lo"), ToolCall("look", {"at": "sky"}, id="call_1"), Used(5, 2)])
    answer = stage.create(tools=[LOOK], metadata={"a": "b"}, temperature=0.5, instructions="be nice")
    assert answer.status_code == 200, answer.json
    told = answer.json
    job = told["id"].removeprefix("resp_")
    assert answer.headers["x-llm-mcp-job"].replace("-", "") == job
    assert [item["type"] for item in told["output"]] == ["reasoning", "message", "function_call"]
    assert told["output"][0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert told["output"][1]["content"] == [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]
    assert told["output"][2] == {
        "id": f"fc_{job}",
        "type": "function_call",
        "status": "completed",
        "call_id": "call_1",
        "name": "look",
        "arguments": '{"at":"sky"}',
    }
    assert (told["status"], told["model"], told["object"]) == ("completed", "play:latest", "response")
    assert (told["usage"]["input_tokens"], told["usage"]["output_tokens"], told["usage"]["total_tokens"]) == (5, 2, 7)
    assert (told["tools"], told["metadata"]) == ([LOOK], {"a": "b"})
    assert (told["temperature"], told["instructions"]) == (0.5, "be nice")
    assert stage.get(told["id"]) == told


def test_what_the_model_is_asked(play: Play) -> None:
    stage = play()
    items = [
        {"role": "developer", "content": "short"},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": PICTURE}],
        },
        {
            "role": "assistant",
            "content": [{"type": "output_text", "text": "well"}, {"type": "output_text", "text": "?"}],
        },
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "blue"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "red"}]},
    ]
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    answer = stage.create(
        input=items,
        instructions="be nice",
        tools=[LOOK],
        tool_choice={"type": "function", "name": "look"},
        text={"format": {"type": "json_schema", "name": "s", "schema": schema}},
        max_output_tokens=9,
        top_p=0.5,
        reasoning={"effort": "low"},
        seed=7,
        user="somebody",
    )
    assert answer.status_code == 200, answer.json
    [asked] = stage.model.calls
    assert asked["messages"] == [
        {"role": "system", "content": "be nice"},
        {"role": "developer", "content": "short"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": PICTURE}}],
        },
        {
            "role": "assistant",
            "content": "well?",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "blue"},
        {"role": "tool", "tool_call_id": "c2", "content": "red"},
    ]
    function = {name: LOOK[name] for name in ("name", "parameters", "strict")}
    assert asked["tools"] == [{"type": "function", "function": function}]
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert asked["response_format"] == {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    assert (asked["max_tokens"], asked["top_p"], asked["reasoning_effort"], asked["seed"]) == (9, 0.5, "low", 7)
    assert "input" not in asked
    assert "user" not in asked


def test_a_cloud_is_told_who_asks(play: Play) -> None:
    stage = play(openai_api_key=SecretStr("k"))
    answer = stage.create(model="gpt", user="somebody", service_tier="flex")
    assert answer.status_code == 200, answer.json
    [asked] = stage.cloud.calls
    assert (asked["user"], asked["service_tier"]) == ("somebody", "flex")


def test_a_conversation_goes_on_from_an_earlier_response(play: Play) -> None:
    stage = play([Text("one"), ToolCall("look", id="c1")], [Text("two")], [Text("three")])
    first = stage.create(input="a", instructions="only now", tools=[LOOK]).json
    output = {"type": "function_call_output", "call_id": "c1", "output": "blue"}
    second = stage.create(input=[output], previous_response_id=first["id"], instructions="now this").json
    third = stage.create(input="c", previous_response_id=second["id"])
    assert third.status_code == 200, third.json
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    assert stage.model.calls[-1]["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "one", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "blue"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "c"},
    ]
    assert stage.client.open(f"/v1/responses/{first['id']}", method="DELETE").status_code == 200
    assert stage.create(input="d", previous_response_id=third.json["id"]).status_code == 200
    assert stage.create(previous_response_id=first["id"]).json["error"]["code"] == "previous_response_not_found"


def test_thinking_is_the_summary_where_one_is_asked_for(play: Play) -> None:
    told = play([Thinking("hm"), Text("Hello")]).create(reasoning={"summary": "auto"}).json
    assert told["output"][0]["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert "content" not in told["output"][0]


def test_in_the_background_the_job_is_asked_for_later(play: Play) -> None:
    stage = play([Text("Hello")])
    told = stage.create(background=True).json
    assert told["background"] is True
    assert told["status"] in ("queued", "in_progress", "completed")  # a worker may be quicker than the answer
    done = until(lambda: (found := stage.get(told["id"]))["status"] == "completed" and found)
    assert done["output"][0]["content"][0]["text"] == "Hello"


def test_a_cancelled_response_stays_cancelled(play: Play) -> None:
    stage = play([Text("Hel"), Pause()])
    name = stage.create(background=True).json["id"]
    until(lambda: stage.get(name)["status"] == "in_progress")
    first = stage.client.post(f"/v1/responses/{name}/cancel")
    again = stage.client.post(f"/v1/responses/{name}/cancel")
    assert (first.status_code, first.json["status"], first.json["error"]) == (200, "cancelled", None)
    assert again.json == first.json
    assert stage.get(name) == first.json
    assert [event["type"] for event in stage.events(name)][-1] == "response.failed"


def test_a_finished_one_cannot_be_cancelled(play: Play) -> None:
    stage = play([Text("Hello")])
    told = stage.create().json
    assert stage.client.post(f"/v1/responses/{told['id']}/cancel").json == told


def test_a_deleted_one_is_gone_and_its_job_with_it(play: Play) -> None:
    stage = play([Text("Hel"), Pause()])
    name = stage.create(background=True).json["id"]
    assert stage.client.open(f"/v1/responses/{name}", method="DELETE").json == {
        "id": name,
        "object": "response.deleted",
        "deleted": True,
    }
    assert stage.get(name)["error"]["code"] == "not_found"
    assert stage.client.open(f"/v1/responses/{name}", method="DELETE").status_code == 404


def test_what_was_asked_can_be_listed(play: Play) -> None:
    stage = play([Text("Hello")])
    items = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    name = stage.create(input=items).json["id"]
    page = stage.client.get(f"/v1/responses/{name}/input_items?limit=2").json
    assert [item["content"][0]["text"] for item in page["data"]] == ["c", "b"]
    assert page["data"][1]["content"][0]["type"] == "output_text"
    assert page["has_more"] is True
    rest = stage.client.get(f"/v1/responses/{name}/input_items?after={page['last_id']}").json
    assert [item["content"][0]["text"] for item in rest["data"]] == ["a"]
    assert rest["has_more"] is False
    first = stage.client.get(f"/v1/responses/{name}/input_items?order=asc&limit=1").json
    assert first["data"][0]["content"] == [{"type": "input_text", "text": "a"}]


def test_one_that_is_not_stored_is_soon_forgotten(play: Play, dsn: str) -> None:
    import psycopg

    stage = play([Text("Hello")])
    told = stage.create(store=False).json
    with psycopg.connect(dsn, autocommit=True) as conn:
        found = conn.execute("SELECT result_ttl_s FROM llm.jobs").fetchone()
        assert found == (600.0,)
        conn.execute("UPDATE llm.jobs SET result_until = now() - interval '1 s'")
    assert stage.get(told["id"])["error"]["code"] == "not_found"


def test_a_refusal_of_the_provider_is_the_clients_own(play: Play) -> None:
    refused = ProviderError("fake answered 400: no", retryable=False, code="bad_request", status=400)
    stage = play([Fail(refused)])
    answer = stage.create()
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "bad_request")
    job = answer.headers["x-llm-mcp-job"].replace("-", "")
    told = stage.get(f"resp_{job}")
    assert (told["status"], told["error"]["code"]) == ("failed", "invalid_prompt")


def test_a_call_nobody_takes_ends_in_a_time_out_naming_its_job(play: Play) -> None:
    answer = play(threads=0, call_timeout_s=0.3).create()
    assert (answer.status_code, answer.json["error"]["code"]) == (504, "call_timeout")
    assert answer.headers["x-llm-mcp-job"] in answer.json["error"]["message"]


def test_the_same_key_gets_the_same_response(play: Play) -> None:
    stage = play([Text("one")], [Text("two")])
    first = stage.create(headers={"Idempotency-Key": "k"})
    assert stage.create(headers={"Idempotency-Key": "k"}).json == first.json
    assert stage.create(input="other", headers={"Idempotency-Key": "k"}).status_code == 422


IMAGE = {"role": "user", "content": [{"type": "input_image", "image_url": "https://x.test/a.png"}]}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": 7}, "input", "invalid_type"),
        ({"input": ["x"]}, "input[0]", "invalid_type"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type", "unsupported_parameter"),
        ({"input": [IMAGE]}, "input[0].content[0].image_url", "unsupported_parameter"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id", "missing_required_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
        ({"tools": [LOOK], "tool_choice": {"type": "function", "name": "no"}}, "tool_choice.name", "invalid_value"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        (
            {"text": {"format": {"type": "json_schema", "name": "s"}}},
            "text.format.schema",
            "missing_required_parameter",
        ),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"top_p": "x"}, "top_p", "invalid_value"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "invalid_value"),
        ({"conversation": "c"}, "conversation", "unsupported_parameter"),
        ({"background": True, "store": False}, "store", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"include": 7}, "include", "invalid_type"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": []}]}]},
            "input[0].output[0].type",
            "invalid_type",
        ),
        ({"previous_response_id": "resp_x"}, "previous_response_id", "previous_response_not_found"),
    ],
)
def test_bad_requests_name_their_field(play: Play, fields: dict[str, Any], param: str, code: str) -> None:
    answer = play(threads=0).create(**fields)
    assert answer.status_code == 400, answer.json
    assert (answer.json["error"]["param"], answer.json["error"]["code"]) == (param, code)
    assert answer.json["error"]["type"] == "invalid_request_error"


def test_a_conversation_does_not_go_on_from_what_is_not_complete(play: Play) -> None:
    stage = play(threads=0)
    name = stage.create(background=True).json["id"]
    error = stage.create(previous_response_id=name).json["error"]
    assert (error["code"], error["param"]) == ("previous_response_not_ready", "previous_response_id")


def test_other_jobs_are_no_responses(play: Play) -> None:
    stage = play([Text("x")])
    chat = stage.client.post(
        "/v1/chat/completions", json={"model": "play", "messages": [{"role": "user", "content": "hi"}]}
    )
    job = chat.headers["x-llm-mcp-job"].replace("-", "")
    for name in (f"resp_{job}", "resp_" + "0" * 32, "resp_x", job, f"resp_{job.upper()}", "resp_é"):
        for answer in (
            stage.client.get(f"/v1/responses/{name}"),
            stage.client.open(f"/v1/responses/{name}", method="DELETE"),
        ):
            assert (answer.status_code, answer.json["error"]["code"]) == (404, "not_found"), name
    wrong = stage.client.get("/v1/responses")
    assert (wrong.status_code, wrong.json["error"]["code"]) == (405, "method_not_allowed")
