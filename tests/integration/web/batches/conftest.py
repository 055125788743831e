"""Files and batches over a worker whose model follows a script."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

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
from tests.waiting import until

CHAT = "/v1/chat/completions"
OVER = ("completed", "failed", "expired", "cancelled")


def line(custom_id: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    """Return a request of a batch: a chat unless it is another one."""
    if url == CHAT and "messages" not in body:
        body["messages"] = [{"role": "user", "content": custom_id}]
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": "play", **body}}


def jsonl(lines: Sequence[Any]) -> bytes:
    """Return lines as a file."""
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


@dataclass
class Stage:
    """A door, the jobs behind it, and the model its worker asks."""

    client: Client
    jobs: Jobs
    model: Fake
    settings: Settings

    def upload(self, data: bytes, *, name: str = "in.jsonl", **fields: str) -> Any:
        """Return the answer to an upload."""
        # Made here: the test client would leave a file open behind a long one.
        boundary, body = encode_multipart({"purpose": "batch", **fields, "file": FileStorage(io.BytesIO(data), name)})
        return self.client.post("/v1/files", data=body, content_type=f"multipart/form-data; boundary={boundary}")

    def create(self, lines: Sequence[Any], url: str = CHAT, **fields: Any) -> Any:
        """Begin a batch of these lines and return it."""
        file = self.upload(jsonl(lines)).json["id"]
        asked = {"input_file_id": file, "endpoint": url, "completion_window": "24h", **fields}
        answer = self.client.post("/v1/batches", json=asked)
        assert answer.status_code == 200, answer.json
        return answer.json

    def get(self, name: str) -> Any:
        """Return a batch, whose counts must make sense."""
        batch = self.client.get(f"/v1/batches/{name}").json
        counts = batch["request_counts"]
        assert counts["completed"] + counts["failed"] <= counts["total"]
        return batch

    def over(self, name: str, *, timeout_s: float = 30.0) -> Any:
        """Return a batch once it is over."""
        return until(lambda: (batch := self.get(name))["status"] in OVER and batch, timeout_s=timeout_s)

    def lines(self, file: str | None) -> list[Any]:
        """Return the lines of a file."""
        if file is None:
            return []
        return [json.loads(one) for one in self.client.get(f"/v1/files/{file}/content").data.splitlines()]

    def work(self) -> Worker:
        """Start a worker."""
        worker = Worker(self.jobs.runtime, threads=4)
        worker.start()
        return worker


Play = Callable[..., Stage]


@pytest.fixture
def dsn(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """DSN of a database of the test's own."""
    yield from _database(postgres, template)


@pytest.fixture
def play(settings: Settings) -> Iterator[Play]:
    """Start a worker whose model follows these scripts; `works=False`: none; other keyword arguments are settings."""
    ends: list[Callable[[], object]] = []

    def start(*scripts: Sequence[Step], works: bool = True, **changed: Any) -> Stage:
        model = Fake(*scripts, models=["play:latest", "play-embed:latest"])
        chosen = settings.model_copy(update=changed)
        runtime = Runtime(chosen, providers={"ollama": model})
        runtimes.use(runtime)
        ends.extend((runtime.close, lambda: runtimes.use(None)))
        stage = Stage(Client(create_app(runtime)), Jobs(runtime), model, chosen)
        if works:
            worker = stage.work()
            ends.append(lambda: worker.drain(0.0))
        return stage

    yield start
    for end in reversed(ends):
        end()
