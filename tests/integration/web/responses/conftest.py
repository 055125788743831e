"""Responses over a worker whose model follows a script, or over one that the test plays itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

import llm_mcp.actors  # noqa: F401 - what the worker can run
from llm_mcp import runtime as runtimes
from llm_mcp.config import Settings
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.jobs import Jobs
from llm_mcp.providers.fake import Fake, Step
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from llm_mcp.worker import Worker
from tests.conftest import _database
from tests.integration.web.client import Client


@dataclass(frozen=True)
class Stage:
    """A door, the jobs behind it, and the models its worker asks: the machine's and the clouds'."""

    client: Client
    jobs: Jobs
    model: Fake
    cloud: Fake

    def create(self, **fields: Any) -> Any:
        """Return the answer to a request of `play` (or another model that is named)."""
        headers = fields.pop("headers", {})
        return self.client.post("/v1/responses", json={"model": "play", "input": "hi", **fields}, headers=headers)

    def get(self, name: str) -> Any:
        """Return a response."""
        return self.client.get(f"/v1/responses/{name}").json

    def events(self, name: str, after: int | None = None) -> list[Any]:
        """Return the events of a response's whole stream after a number."""
        place = "" if after is None else f"&starting_after={after}"
        return events(self.client.get(f"/v1/responses/{name}?stream=true{place}").text)

    def payload(self, answer: Any) -> dict[str, Any]:
        """Return the payload of the job of an answer."""
        job = self.jobs.get(UUID(answer.headers["x-llm-mcp-job"]))
        found: dict[str, Any] = json.loads(job.payload or "{}")
        return found


def events(body: str) -> list[Any]:
    """Return the events of a stream."""
    found = []
    for block in body.split("\n\n"):
        if block and not block.startswith(":"):
            name, data = block.split("\n")
            event = json.loads(data.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            found.append(event)
    return found


@pytest.fixture
def dsn(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """DSN of a database of the test's own."""
    yield from _database(postgres, template)


Play = Callable[..., Stage]


@pytest.fixture
def play(settings: Settings) -> Iterator[Play]:
    """Start a worker whose model follows these scripts; `threads=0`: none; other keyword arguments are settings."""
    ends: list[Callable[[], object]] = []

    def start(*scripts: Sequence[Step], threads: int = 4, **changed: Any) -> Stage:
        model = Fake(*scripts, models=["play:latest", "play-embed:latest"])
        cloud = Fake(*scripts, models=["a/cloudy", "gpt"])
        runtime = Runtime(
            settings.model_copy(update=changed), providers={"ollama": model, "openai": cloud, "openrouter": cloud}
        )
        runtimes.use(runtime)
        ends.extend((runtime.close, lambda: runtimes.use(None)))
        if threads:
            worker = Worker(runtime, threads=threads)
            worker.start()
            ends.append(lambda: worker.drain(0.0))
        return Stage(Client(create_app(runtime)), Jobs(runtime), model, cloud)

    yield start
    for end in reversed(ends):
        end()
