"""Calls of every dialect, while they wait: they take places, not threads, and end when the process does."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.jobs import Jobs
from llm_mcp.providers.fake import Fake
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.conftest import _database
from tests.integration.web.client import Client
from tests.waiting import until

SAID = [{"role": "user", "content": "hi"}]
CALLS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "play", "messages": SAID},
    "/v1/completions": {"model": "play", "prompt": "hi"},
    "/v1/embeddings": {"model": "play", "input": "hi"},
    "/v1/responses": {"model": "play", "input": "hi"},
    "/api/generate": {"model": "play", "prompt": "hi", "stream": False},
    "/api/generate ": {"model": "play"},
    "/api/chat": {"model": "play", "messages": SAID, "stream": False},
    "/api/embed": {"model": "play", "input": "hi"},
    "/api/embeddings": {"model": "play", "prompt": "hi"},
}


@pytest.fixture
def dsn(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """DSN of a database of the test's own."""
    yield from _database(postgres, template)


def alone(runtime: Runtime, **changed: Any) -> Client:
    """Return a client of a door nobody works behind."""
    runtime.settings = runtime.settings.model_copy(update={"local_ollama": False, **changed})
    runtime._providers["ollama"] = Fake(models=["play"])
    return Client(create_app(runtime))


@pytest.mark.parametrize("path", CALLS)
def test_a_process_that_is_to_stop_says_where_the_job_goes_on(runtime: Runtime, path: str) -> None:
    client = alone(runtime, call_timeout_s=20)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(client.post, path.strip(), json=CALLS[path])
        (job,) = until(Jobs(runtime).page)
        client.application.extensions["streams"].draining.set()
        answer = asking.result(20)
    assert (answer.status_code, answer.headers["x-llm-mcp-job"]) == (503, str(job.id))
    assert str(job.id) in answer.text


@pytest.mark.parametrize("path", CALLS)
def test_who_waits_takes_a_place_and_gives_it_back(runtime: Runtime, path: str) -> None:
    client = alone(runtime, call_timeout_s=0.1, max_streams=1)
    with client.application.app_context():
        taken = client.application.extensions["streams"].enter()
    full = client.post(path.strip(), json=CALLS[path])
    assert (full.status_code, "Retry-After" in full.headers) == (503, True)
    assert Jobs(runtime).page() == []
    taken()
    for _ in range(2):
        assert client.post(path.strip(), json=CALLS[path]).status_code == 504
