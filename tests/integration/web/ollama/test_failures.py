"""What a client is told when a call fails: the status, and Ollama's words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from llm_mcp.errors import ProviderError
from llm_mcp.jobs import Jobs
from llm_mcp.providers.fake import Fail, Pause, Text
from llm_mcp.runtime import Runtime
from tests.integration.web.client import Client
from tests.integration.web.ollama.conftest import HI, Play, ask
from tests.integration.web.played import Player
from tests.waiting import until

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/api/generate", {"prompt": "hi"}),
    ("/api/generate", {"prompt": "hi", "stream": False}),
    ("/api/generate", {}),
    ("/api/chat", {"messages": HI}),
    ("/api/chat", {"messages": HI, "stream": False}),
    ("/api/embed", {"input": "hi"}),
    ("/api/embeddings", {"prompt": "hi"}),
]


def refused(words: str, *, retryable: bool = False, **said: Any) -> ProviderError:
    return ProviderError(words, retryable=retryable, **said)


REFUSALS: list[tuple[ProviderError, int, str]] = [
    (refused('ollama answered 400: "play:latest" does not support x', code="bad_request", status=400), 400, ""),
    (refused('ollama answered 500: option "num_ctx" must be', code="bad_request", status=500), 400, ""),
    (refused("ollama answered 501: no embeddings", code="bad_request", status=501), 501, "no embeddings"),
    (refused("ollama answered 404: model 'play:latest' not found", code="not_found", status=404), 404, ""),
    (refused("openai answered 401: no such key", code="unauthorized", status=401), 401, "no such key"),
    (refused("missing OPENAI_API_KEY", code="unauthorized"), 503, "missing OPENAI_API_KEY"),
    (refused("openai answered 429: slower", code="rate_limited", status=429, retry_after_s=7), 429, "slower"),
    (refused("ollama answered 503: server busy", code="overloaded", status=503), 503, "server busy"),
    (refused("ollama answered 500: it died", status=500), 500, "it died"),
    (refused("10.0.0.1:1 does not answer", code="unreachable"), 502, "10.0.0.1:1 does not answer"),
    (refused("ollama: the stream ended", code="broken_stream"), 502, "the stream ended"),
]
RENAMED = {400: '"play" does not support x', 404: "model 'play' not found"}


def test_a_devices_refusal_is_told_in_its_own_words(play: Play) -> None:
    stage = play(*([Fail(error)] for error, *_ in REFUSALS for _ in (True, False)))
    for error, status, words in REFUSALS:
        for stream in (True, False):
            answer = ask(stage.client, "/api/generate", {"model": "play", "prompt": "hi", "stream": stream})
            said = words or (RENAMED[status] if error.status == status else 'option "num_ctx" must be')
            assert (answer.status_code, answer.json) == (status, {"error": said})
            UUID(answer.headers["x-llm-mcp-job"])
            assert answer.headers.get("Retry-After") == ("7" if error.retry_after_s else None)


@pytest.mark.parametrize(("path", "body"), CALLS)
def test_without_a_worker_a_call_ends_in_a_time_out_and_its_job_goes_on(
    alone: Callable[..., Client], runtime: Runtime, path: str, body: dict[str, Any]
) -> None:
    answer = ask(alone("play:latest", call_timeout_s=0.3), path, {"model": "play", **body})
    assert answer.status_code == 504
    job_id = answer.headers["x-llm-mcp-job"]
    assert list(answer.json) == ["error"]
    assert job_id in answer.json["error"]
    assert Jobs(runtime).get(UUID(job_id)).status == "queued"


MISSING = 'model "{}" not found, try pulling it first'


@pytest.mark.parametrize(
    ("path", "nameless", "unknown"),
    [
        ("/api/generate", (404, "model '' not found"), "model 'nope' not found"),
        ("/api/chat", (400, "model is required"), "model 'nope' not found"),
        ("/api/embed", (404, "model '' not found"), MISSING.format("nope")),
        ("/api/embeddings", (400, "model is required"), MISSING.format("nope")),
        ("/api/show", (400, "model is required"), "model 'nope:latest' not found"),
    ],
)
def test_a_model_nobody_has_is_told_as_ollama_does(
    alone: Callable[..., Client], runtime: Runtime, path: str, nameless: tuple[int, str], unknown: str
) -> None:
    client = alone("play:latest")
    for body, (status, words) in (({}, nameless), ({"model": "nope"}, (404, unknown))):
        answer = ask(client, path, body)
        assert (answer.status_code, answer.json) == (status, {"error": words})
    assert Jobs(runtime).page() == []


def test_where_nothing_answers_it_is_said_what_is_missing(alone: Callable[..., Client]) -> None:
    client = alone()
    for model, words in (("nope", "no machine"), ("a/b", "OPENROUTER_API_KEY")):
        answer = ask(client, "/api/generate", {"model": model, "prompt": "hi"})
        assert answer.status_code == 503
        assert words in answer.json["error"]
        assert int(answer.headers["Retry-After"]) >= 1


def test_a_full_queue_is_told(alone: Callable[..., Client]) -> None:
    client = alone("play:latest", call_timeout_s=0.1, max_queued=1)
    body = {"model": "play", "prompt": "hi"}
    assert ask(client, "/api/generate", body).status_code == 504
    answer = ask(client, "/api/generate", body)
    assert (answer.status_code, list(answer.json)) == (429, ["error"])
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_body_over_the_limit_and_one_no_database_takes_are_refused(
    alone: Callable[..., Client], runtime: Runtime
) -> None:
    client = alone("play:latest", max_body_bytes=2048)
    answer = ask(client, "/api/generate", {"model": "play", "prompt": "x" * 4096})
    assert (answer.status_code, answer.json) == (413, {"error": "request body too large"})
    answer = ask(client, "/api/chat", {"model": "play", "messages": [{"role": "user", "content": "a\0"}]})
    assert answer.status_code == 400
    assert answer.json["error"].startswith("messages[0].content: ")
    answer = ask(client, "/api/generate", {"model": "play", "prompt": "hi"}, **{"Idempotency-Key": "a,b"})
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json["error"]
    assert Jobs(runtime).page() == []


def test_paths_and_methods_that_are_not_there_are_told_in_plain_text(alone: Callable[..., Client]) -> None:
    client = alone()
    for method, path, status, text in (
        ("GET", "/api/generate", 405, "405 method not allowed"),
        ("DELETE", "/api/tags", 405, "405 method not allowed"),
        ("POST", "/api/nothing", 404, "404 page not found"),
        ("GET", "/api/chat/x", 404, "404 page not found"),
    ):
        answer = client.open(path, method=method)
        assert (answer.status_code, answer.text) == (status, text)
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert client.open("/api/generate", method="GET").headers["Allow"] == "OPTIONS, POST"
    assert client.open("/api/chat", method="OPTIONS").status_code == 204


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", f"/api/{verb}") for verb in ("pull", "push", "create", "copy", "blobs/sha256:0")),
        ("DELETE", "/api/delete"),
        ("HEAD", "/api/blobs/sha256:0"),
    ],
)
def test_models_are_managed_elsewhere(alone: Callable[..., Client], method: str, path: str) -> None:
    answer = alone().open(path, method=method, data=b'{"model":"x"}')
    assert answer.status_code == 501
    if method != "HEAD":
        assert "on the devices" in answer.json["error"]


# — streams that have begun —


@dataclass(frozen=True)
class Streaming:
    """A stream that has begun: its door, its job's id, and its lines as they come."""

    client: Client
    job_id: str
    lines: Iterator[bytes]


@pytest.fixture
def streaming(alone: Callable[..., Client], runtime: Runtime) -> Iterator[Callable[[], Streaming]]:
    """Begin a stream whose worker the test plays."""
    client = alone("play:latest")
    pool = ThreadPoolExecutor(1)

    def begin() -> Streaming:
        body = {"model": "play", "messages": HI}
        asking = pool.submit(client.post, "/api/chat", json=body, buffered=False)
        (job,) = until(lambda: [job for job in Jobs(runtime).page() if job.status == "queued"])

        def lines() -> Iterator[bytes]:
            yield from asking.result(20).response

        return Streaming(client, str(job.id), lines())

    yield begin
    pool.shutdown()


def test_words_are_sent_as_they_come(streaming: Callable[[], Streaming], player: Player) -> None:
    stream = streaming()
    attempt = player.claim(stream.job_id, "ollama.chat")
    attempt.say("Hel")
    assert b'"content":"Hel"' in next(stream.lines)
    attempt.say("lo")
    assert b'"content":"lo"' in next(stream.lines)
    attempt.done({"response": "Hello", "data": {"done_reason": "length", "eval_duration": 7, "load_duration": 0}})
    last = next(stream.lines)
    assert b'"done_reason":"length"' in last
    assert b'"eval_duration":7' in last
    assert b"load_duration" not in last
    assert list(stream.lines) == []


def test_a_lease_that_is_lost_after_the_first_word_is_told(streaming: Callable[[], Streaming], player: Player) -> None:
    stream = streaming()
    attempt = player.claim(stream.job_id, "ollama.chat")
    attempt.say("Hel")
    next(stream.lines)
    attempt.fail("it went away")
    last = next(stream.lines)
    assert last.startswith(b'{"error":')
    assert stream.job_id.encode() in last
    assert list(stream.lines) == []


def test_a_job_that_is_cancelled_ends_its_stream(
    streaming: Callable[[], Streaming], player: Player, runtime: Runtime
) -> None:
    stream = streaming()
    player.claim(stream.job_id, "ollama.chat").say("Hel")
    next(stream.lines)
    Jobs(runtime).cancel(UUID(stream.job_id))
    assert next(stream.lines) == b'{"error":"request canceled"}\n'


def test_a_job_that_is_cancelled_before_its_first_word_is_499(play: Play) -> None:
    gate = threading.Event()
    stage = play([Pause(until=gate), Text("never")])
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, stage.client, "/api/generate", {"model": "play", "prompt": "hi"})
        (job,) = until(stage.jobs.page)
        until(lambda: len(stage.model.calls) == 1)
        stage.jobs.cancel(job.id)
        answer = asking.result(20)
    assert (answer.status_code, answer.json) == (499, {"error": "request canceled"})
    assert answer.headers["x-llm-mcp-job"] == str(job.id)


def test_a_process_that_is_to_stop_says_where_the_job_goes_on(
    streaming: Callable[[], Streaming], player: Player
) -> None:
    stream = streaming()
    player.claim(stream.job_id, "ollama.chat").say("Hel")
    next(stream.lines)
    stream.client.application.extensions["streams"].draining.set()
    last = next(stream.lines)
    assert last.startswith(b'{"error":')
    assert stream.job_id.encode() in last
