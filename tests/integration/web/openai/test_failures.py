"""What a client is told when a call fails: the status, the words and whether to try again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from llm_mcp.errors import ProviderError
from llm_mcp.jobs import Jobs
from llm_mcp.providers.fake import Fail, Fake
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.integration.web.client import Client
from tests.integration.web.openai.conftest import HI, Play
from tests.waiting import until


def refused(**said: Any) -> ProviderError:
    return ProviderError("fake: its words", retryable=False, **said)


REFUSALS: list[tuple[ProviderError, int, str, str, str | None]] = [
    (refused(code="bad_request", status=422), 422, "invalid_request_error", "bad_request", None),
    (refused(code="bad_request", status=500), 400, "invalid_request_error", "bad_request", None),
    (refused(code="not_found", status=404), 404, "invalid_request_error", "model_not_found", "model"),
    (refused(code="unauthorized", status=401), 401, "authentication_error", "invalid_api_key", None),
    (refused(code="unauthorized", status=403), 403, "permission_error", "invalid_api_key", None),
    (refused(code="unauthorized"), 503, "server_error", "no_api_key", None),
    (refused(code="quota", status=402), 402, "insufficient_quota", "insufficient_quota", None),
    (
        refused(code="rate_limited", status=429, retry_after_s=7),
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
        None,
    ),
    (refused(code="overloaded", status=503), 503, "server_error", "overloaded", None),
    (refused(code="unreachable"), 502, "server_error", "ollama_chat_failed", None),
    (refused(code="broken_stream"), 502, "server_error", "ollama_chat_failed", None),
    (refused(status=500), 502, "server_error", "ollama_chat_failed", None),
]


def test_a_providers_refusal_is_passed_on(play: Play) -> None:
    stage = play(*([Fail(error)] for error, *_ in REFUSALS))
    for error, status, kind, code, param in REFUSALS:
        answer = stage.chat()
        told = {"message": "fake: its words", "type": kind, "param": param, "code": code}
        assert (answer.status_code, answer.json) == (status, {"error": told}), error.code
        assert answer.headers["x-should-retry"] == "false"
        UUID(answer.headers["x-llm-mcp-job"])
        assert answer.headers.get("Retry-After") == ("7" if error.retry_after_s else None)


def test_what_helps_is_tried_again_before_the_client_is_told(play: Play) -> None:
    stage = play([Fail(ProviderError("busy", retryable=True, code="overloaded", status=503))])
    answer = stage.chat()
    assert answer.status_code == 503
    assert stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"])).attempts == 3


def alone(runtime: Runtime, *models: str, **changed: Any) -> Client:
    """Return a client of a door nobody works behind."""
    runtime.settings = runtime.settings.model_copy(update={"local_ollama": False, **changed})
    if models:
        runtime._providers["ollama"] = Fake(models=models)
    return Client(create_app(runtime))


def chat(client: Client, model: str | None = "play") -> Any:
    return client.post("/v1/chat/completions", json={"model": model, "messages": HI})


def test_without_a_worker_a_call_ends_in_a_time_out_and_its_job_goes_on(runtime: Runtime) -> None:
    answer = chat(alone(runtime, "play", call_timeout_s=0.3))
    assert (answer.status_code, answer.json["error"]["code"]) == (504, "call_timeout")
    assert answer.headers["x-should-retry"] == "false"
    job_id = answer.headers["x-llm-mcp-job"]
    assert job_id in answer.json["error"]["message"]
    assert Jobs(runtime).get(UUID(job_id)).status == "queued"


def test_a_process_that_is_to_stop_says_where_the_job_goes_on(runtime: Runtime) -> None:
    client = alone(runtime, "play")
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(chat, client)
        (job,) = until(Jobs(runtime).page)
        client.application.extensions["streams"].draining.set()
        answer = asking.result(20)
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "server_draining")
    assert (answer.headers["x-llm-mcp-job"], answer.headers["x-should-retry"]) == (str(job.id), "false")


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [("nope", 503, "no_device"), ("a/b", 503, "no_api_key"), (None, 400, "no_model")],
)
def test_where_nothing_answers_it_is_said_what_is_missing(
    runtime: Runtime, model: str | None, status: int, code: str
) -> None:
    answer = chat(alone(runtime), model)
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)
    assert Jobs(runtime).page() == []


def test_a_model_nobody_has_is_not_found(runtime: Runtime) -> None:
    answer = chat(alone(runtime, "play"), "nope")
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "model_not_found")
    assert answer.json["error"]["param"] == "model"


def test_a_full_queue_is_a_rate_limit(runtime: Runtime) -> None:
    client = alone(runtime, "play", call_timeout_s=0.1, max_queued=1)
    assert chat(client).status_code == 504
    answer = chat(client)
    assert (answer.status_code, answer.json["error"]["code"]) == (429, "queue_full")
    assert answer.json["error"]["type"] == "rate_limit_error"
    assert int(answer.headers["Retry-After"]) >= 1
