"""The dialect over a worker whose model follows a script, or over one that the test plays itself."""

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
from llm_mcp.jobs import Jobs
from llm_mcp.providers.fake import Fake, Step
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from llm_mcp.worker import Worker
from tests.integration.rows import emptied
from tests.integration.web.client import Client

HI = [{"role": "user", "content": "hi"}]


@dataclass(frozen=True)
class Stage:
    """A door, the jobs behind it, and the models its worker asks: the machine's and the clouds'."""

    client: Client
    jobs: Jobs
    model: Fake
    cloud: Fake

    def chat(self, **fields: Any) -> Any:
        """Return the answer to a chat with `play` (or another model that is named)."""
        headers = fields.pop("headers", {})
        body = {"model": "play", "messages": HI, **fields}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def payload(self, answer: Any) -> dict[str, Any]:
        """Return the payload of the job of an answer."""
        job = self.jobs.get(UUID(answer.headers["x-llm-mcp-job"]))
        found: dict[str, Any] = json.loads(job.payload or "{}")
        return found


@pytest.fixture
def dsn(own: str) -> str:
    """DSN of a database without a row of ours in it."""
    return emptied(own)


Play = Callable[..., Stage]


@pytest.fixture
def play(settings: Settings) -> Iterator[Play]:
    """Start a worker whose model follows these scripts; keyword arguments are settings."""
    ends: list[Callable[[], object]] = []

    def start(*scripts: Sequence[Step], **changed: Any) -> Stage:
        model = Fake(*scripts, models=["play:latest", "play-embed:latest"])
        cloud = Fake(*scripts, models=["a/cloudy", "gpt"])
        runtime = Runtime(
            settings.model_copy(update=changed), providers={"ollama": model, "openai": cloud, "openrouter": cloud}
        )
        runtimes.use(runtime)
        worker = Worker(runtime, threads=4)
        worker.start()
        ends.extend((runtime.close, lambda: runtimes.use(None), lambda: worker.drain(0.0)))
        return Stage(Client(create_app(runtime)), Jobs(runtime), model, cloud)

    yield start
    for end in reversed(ends):
        end()
