"""What a provider's refusal means: one row for each fact seen on the wire."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from llm_mcp.providers import faults

NOW = datetime(2026, 11, 22, 7, 0, 0, tzinfo=UTC)


def openai(message: str = "m", code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def openrouter(code: int, message: str = "m", **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}}


ENGINE = {"error": {"code": 400, "message": "request (5031 tokens) exceeds the available context size (2048 tokens)"}}
BUSY = "server busy, please try again.  maximum pending requests exceeded"
FORMAT = 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'

REFUSALS: list[tuple[int, Any, str, bool]] = [
    # Ollama
    (404, {"error": "model 'nope' not found"}, "not_found", False),
    (404, {"error": 'model "nope" not found, try pulling it first'}, "not_found", False),
    (404, "404 page not found", "not_found", False),
    (400, {"error": '"m" does not support thinking'}, "bad_request", False),
    (400, {"error": json.dumps(ENGINE)}, "bad_request", False),
    (500, {"error": 'option "num_ctx" must be of type integer'}, "bad_request", False),
    (500, {"error": FORMAT}, "bad_request", False),
    (500, {"error": "This server does not support embeddings. Start it with `--embeddings`"}, "bad_request", False),
    (501, {"error": "This server does not support embeddings. Start it with `--embeddings`"}, "bad_request", False),
    (500, {"error": "llama-server process has terminated: signal: segmentation fault"}, "provider_failed", True),
    (500, {"error": "an error was encountered while running the model: unexpected EOF"}, "provider_failed", True),
    (500, {"error": "model requires more system memory (5.6 GiB) than is available (3.2 GiB)"}, "overloaded", True),
    (503, {"error": BUSY}, "overloaded", True),
    # llama.cpp
    (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, "overloaded", True),
    (400, {"error": {"code": 400, "message": "x", "type": "exceed_context_size_error"}}, "bad_request", False),
    # OpenAI
    (401, openai("Incorrect API key provided", "invalid_api_key"), "unauthorized", False),
    (403, openai("Country not supported", "unsupported_country_region_territory"), "unauthorized", False),
    (404, openai("The model `x` does not exist", "model_not_found"), "not_found", False),
    (400, openai("Unsupported parameter", "unsupported_parameter"), "bad_request", False),
    (429, openai("Rate limit reached", "rate_limit_exceeded", "requests"), "rate_limited", True),
    (429, openai("You exceeded your quota", "insufficient_quota", "insufficient_quota"), "quota", False),
    (429, openai("odd", None, "invalid_request_error"), "rate_limited", True),
    (500, openai("The server had an error", None, "server_error"), "provider_failed", True),
    (503, openai("The engine is overloaded", None, "server_error"), "overloaded", True),
    # OpenRouter
    (402, openrouter(402, "Insufficient credits"), "quota", False),
    (403, openrouter(403, "flagged", metadata={"error_type": "content_policy_violation"}), "bad_request", False),
    (408, openrouter(408), "timeout", True),
    (413, openrouter(413), "bad_request", False),
    (429, openrouter(429, metadata={"error_type": "rate_limit_exceeded"}), "rate_limited", True),
    (502, openrouter(502, metadata={"error_type": "context_length_exceeded"}), "bad_request", False),
    (502, openrouter(502, metadata={"error_type": "provider_unavailable"}), "overloaded", True),
    (503, openrouter(503, availability={"retryable": False}), "overloaded", False),
    (404, openrouter(404, availability={"retryable": True}), "not_found", True),
    (529, openrouter(529), "overloaded", True),
    # by status alone
    (409, b"", "provider_failed", True),
    (418, b"", "bad_request", False),
    (422, {"detail": "no"}, "bad_request", False),
    (502, "<html>Bad gateway</html>", "provider_failed", True),
    (504, b"", "timeout", True),
    (599, b"\xff\xfe", "provider_failed", True),
    (302, b"", "provider_failed", False),
]


def encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()


@pytest.mark.parametrize(("status", "body", "code", "retryable"), REFUSALS)
def test_refusals(status: int, body: Any, code: str, retryable: bool) -> None:
    error = faults.refusal("p", status, {}, encoded(body), now=NOW)
    assert (error.code, error.retryable, error.status) == (code, retryable, status)


COMPLAINTS: list[tuple[Any, str, bool, int | None]] = [
    ("an error was encountered while running the model: unexpected EOF", "provider_failed", True, None),
    ("model 'gone' not found", "not_found", False, None),
    (openrouter(429, "Provider returned error")["error"], "rate_limited", True, 429),
    (openrouter(502, metadata={"error_type": "provider_overloaded"})["error"], "overloaded", True, 502),
    ({"code": "400", "message": "m"}, "bad_request", False, 400),
    ({"code": "server_error", "message": "m"}, "provider_failed", True, None),
    ({"code": 7, "message": "m"}, "provider_failed", True, None),
    ({"message": "no", "type": "invalid_request_error", "code": None}, "bad_request", False, None),
    ({"message": "m", "type": "insufficient_quota"}, "quota", False, None),
    (["what", "is", "this"], "provider_failed", True, None),
    (True, "provider_failed", True, None),
]


@pytest.mark.parametrize(("error", "code", "retryable", "status"), COMPLAINTS)
def test_errors_inside_an_answer(error: Any, code: str, retryable: bool, status: int | None) -> None:
    found = faults.complaint("p", error)
    assert (found.code, found.retryable, found.status) == (code, retryable, status)


WAITS: list[tuple[dict[str, str], dict[str, Any], float | None]] = [
    ({"retry-after": "17"}, {}, 17.0),
    ({"retry-after": "0.5"}, {}, 0.5),
    ({"retry-after": "Sun, 22 Nov 2026 07:01:30 GMT"}, {}, 90.0),
    ({"retry-after": "Sun, 22 Nov 2026 06:00:00 GMT"}, {}, 0.0),
    ({"retry-after": "Sun, 22 Nov 2026 07:01:30 -0000"}, {}, None),
    ({"retry-after-ms": "1500", "retry-after": "2"}, {}, 1.5),
    ({"retry-after": "soon"}, {}, None),
    ({"retry-after": "-3"}, {}, None),
    ({"retry-after": "inf"}, {}, None),
    ({"retry-after": "nan"}, {"metadata": {"retry_after_seconds": 4}}, 4.0),
    ({}, {"metadata": {"retry_after_seconds": 17, "headers": {"Retry-After": "18"}}}, 17.0),
    ({}, {"metadata": {"headers": {"Retry-After": "18"}}}, 18.0),
    ({}, {"availability": {"retryable": True, "retry_after": 9}}, 9.0),
    ({}, {"metadata": {"retry_after_seconds": True}}, None),
    ({}, {"metadata": ["odd"], "availability": "odd"}, None),
    ({}, {}, None),
]


@pytest.mark.parametrize(("headers", "more", "wait"), WAITS)
def test_when_to_come_back(headers: dict[str, str], more: dict[str, Any], wait: float | None) -> None:
    error = faults.refusal("p", 429, headers, encoded(openrouter(429, **more)), now=NOW)
    assert error.retry_after_s == wait


def test_nothing_to_wait_for_when_another_try_does_not_help() -> None:
    assert faults.refusal("p", 402, {"retry-after": "5"}, b"", now=NOW).retry_after_s is None


@pytest.mark.parametrize(
    ("said", "status", "retryable"), [("false", 429, False), ("true", 400, True), ("maybe", 429, True)]
)
def test_the_provider_knows_best_whether_to_try_again(said: str, status: int, retryable: bool) -> None:
    assert faults.refusal("p", status, {"x-should-retry": said}, b"", now=NOW).retryable is retryable


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, {"error": "model 'nope' not found"}, "p answered 404: model 'nope' not found"),
        (400, {"error": json.dumps(ENGINE)}, f"p answered 400: {ENGINE['error']['message']}"),
        (500, {"message": "two\n  lines"}, "p answered 500: two lines"),
        (502, "<html>x</html>", "p answered 502: Bad Gateway"),
        (599, b"", "p answered 599: no words"),
        (500, {"error": "{not json"}, "p answered 500: {not json"),
        (
            307,
            {"error": "x"},
            "p answered 307: a redirect, which is not followed: set the base URL to the final address",
        ),
    ],
)
def test_words(status: int, body: Any, words: str) -> None:
    assert str(faults.refusal("p", status, {}, encoded(body), now=NOW)) == words


def test_a_long_message_is_cut() -> None:
    assert len(str(faults.refusal("p", 400, {}, encoded({"error": "x" * 10_000}), now=NOW))) < 350


PROMPT = "My neighbour's secret is that he collects garden gnomes"


@pytest.mark.parametrize("echoed", [PROMPT, PROMPT[:30] + "...", " ".join([PROMPT] * 9)])
def test_prompts_and_keys_are_not_repeated(echoed: str) -> None:
    error = faults.refusal("p", 400, {}, encoded({"error": f'cannot read "{echoed}"'}), secrets=["hi", PROMPT], now=NOW)
    assert str(error) == 'p answered 400: cannot read "…'
    key = "sk-abcdefghijkl"
    assert key not in str(faults.complaint("p", {"message": f"bad key {key} given"}, secrets=[key]))
