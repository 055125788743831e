"""What a finished call said, from whatever a job's result holds."""

from __future__ import annotations

from typing import Any

import pytest

from llm_mcp.answers import finished

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


def openai(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": "stop", **more}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 0.5}
    return {"data": {"id": "x", "model": "m-1", "choices": [choice], "usage": usage, "system_fingerprint": "fp"}}


def test_ollamas_chat() -> None:
    calls = [{"id": "1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}]
    message = {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": calls}
    said = finished({"response": "", "model": "m", "tokens_in": 5, "tokens_out": 2, "data": {"message": message}})
    assert (said.text, said.thinking, said.tool_calls, said.finish_reason) == (None, "hm", [CALL], "tool_calls")
    assert said.usage == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert said.model == "m"


@pytest.mark.parametrize(("word", "reason"), [("stop", "stop"), ("length", "length"), ("load", "stop"), (None, "stop")])
def test_ollamas_reasons(word: str | None, reason: str) -> None:
    assert finished({"response": "x", "data": {"done_reason": word}}).finish_reason == reason


def test_ollamas_calls_are_whole_whatever_it_says_of_the_end() -> None:
    data = {"message": {"tool_calls": [{"function": {"name": "f"}}]}, "done_reason": "length"}
    assert finished({"response": "", "data": data}).finish_reason == "tool_calls"


def test_ollamas_generate_and_its_log_probabilities() -> None:
    data = {"response": "<think>a</think>b", "logprobs": [{"token": "é", "logprob": -1}, {"odd": 1}]}
    said = finished({"response": "b", "thinking": "a", "data": data})
    assert (said.text, said.thinking) == ("b", "a")
    assert said.logprobs == [{"token": "é", "logprob": -1, "bytes": [195, 169], "top_logprobs": []}]


def test_openais_completion_keeps_what_else_it_says() -> None:
    said = finished(openai({"role": "assistant", "content": "hi", "reasoning": "hm", "annotations": [1]}))
    assert (said.text, said.thinking, said.model) == ("hi", "hm", "m-1")
    assert said.more == {"system_fingerprint": "fp"}
    assert said.of_message == {"annotations": [1]}
    assert said.usage["cost"] == 0.5


def test_openais_calls_and_log_probabilities() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    said = finished(openai(message, finish_reason="tool_calls", logprobs={"content": [{"token": "x"}]}))
    assert (said.text, said.tool_calls, said.finish_reason) == (None, [CALL], "tool_calls")
    assert said.logprobs == [{"token": "x"}]


def test_thinking_a_cloud_left_in_its_text_is_moved() -> None:
    told = {**openai({"role": "assistant", "content": "<think>a</think>b"}), "response": "b", "thinking": "a"}
    assert (finished(told).text, finished(told).thinking) == ("b", "a")


@pytest.mark.parametrize(
    "result", [None, [], "text", {}, {"data": None}, {"data": {"choices": []}}, {"data": {"message": 1}}]
)
def test_a_strangers_result_is_an_empty_answer(result: Any) -> None:
    said = finished(result)
    assert (said.text, said.tool_calls, said.finish_reason, said.usage["total_tokens"]) == ("", [], "stop", 0)


def test_a_strangers_flat_fields_will_do() -> None:
    said = finished({"response": "hi", "tokens_in": 1, "tokens_out": 2})
    assert (said.text, said.usage["total_tokens"]) == ("hi", 3)
