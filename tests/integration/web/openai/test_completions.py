"""`POST /v1/completions`, the older form."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import SecretStr

from llm_mcp.providers.fake import Text, Thinking, Used
from tests.integration.web.openai.conftest import Play, Stage
from tests.integration.web.openai.reading import chunks


def complete(stage: Stage, **fields: Any) -> Any:
    """Return the answer to a prompt for `play`."""
    return stage.client.post("/v1/completions", json={"model": "play", "prompt": "once", **fields})


def test_a_prompt_is_completed(play: Play) -> None:
    stage = play([Text(" upon"), Text(" a time"), Used(1, 3)])
    answer = complete(stage, max_tokens=9)
    job_id = UUID(answer.headers["x-llm-mcp-job"])
    told = answer.json
    assert told.pop("created") > 0
    assert told == {
        "id": f"cmpl-{job_id.hex}",
        "object": "text_completion",
        "model": "play:latest",
        "choices": [{"text": " upon a time", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4},
    }
    assert stage.jobs.get(job_id).kind == "ollama.generate"
    assert (stage.model.calls[-1]["prompt"], stage.model.calls[-1]["max_tokens"]) == ("once", 9)


def test_a_prompt_streams(play: Play) -> None:
    stage = play([Thinking("hm"), Text(" upon"), Text(" a time"), Used(1, 3)])
    found = chunks(complete(stage, prompt=["once"], stream=True, stream_options={"include_usage": True}).text)
    assert "".join(chunk["choices"][0]["text"] for chunk in found if chunk["choices"]) == " upon a time"
    assert [chunk["choices"][0]["finish_reason"] for chunk in found[-2:] if chunk["choices"]] == ["stop"]
    assert found[-1]["usage"]["total_tokens"] == 4
    assert {chunk["object"] for chunk in found} == {"text_completion"}


def test_log_probabilities_have_their_older_form(play: Play) -> None:
    tokens = [{"token": " upon", "logprob": -0.5, "top_logprobs": [{"token": " there", "logprob": -2.0}]}]
    stage = play([Text(" upon", tokens)])
    (choice,) = complete(stage, logprobs=1).json["choices"]
    assert choice["logprobs"] == {
        "tokens": [" upon"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{" there": -2.0}],
        "text_offset": [0],
    }
    assert (stage.model.calls[-1]["logprobs"], stage.model.calls[-1]["top_logprobs"]) == (True, 1)


def test_a_cloud_gets_the_prompt_as_a_chat(play: Play) -> None:
    stage = play([Text("ok")], openrouter_api_key=SecretStr("k"))
    answer = complete(stage, model="a/cloudy")
    assert answer.json["choices"][0]["text"] == "ok"
    assert stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"])).kind == "openrouter.chat"


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": None}, "prompt", "invalid_type"),
    ({"prompt": [1, 2]}, "prompt", "invalid_type"),
    ({"prompt": ["a", "b"]}, "prompt", "unsupported_parameter"),
    ({"n": 2}, "n", "unsupported_parameter"),
    ({"best_of": 2}, "best_of", "unsupported_parameter"),
    ({"echo": True}, "echo", "unsupported_parameter"),
    ({"logprobs": 9}, "logprobs", "invalid_value"),
]


def test_bad_input_is_refused_by_its_name(play: Play) -> None:
    stage = play()
    for fields, param, code in BAD:
        answer = complete(stage, **fields)
        assert answer.status_code == 400, fields
        error = answer.json["error"]
        assert (error["param"], error["code"]) == (param, code), fields
