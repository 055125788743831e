"""Ollama's dialect over a worker whose model follows a script, or over one that the test plays itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_mcp.providers.fake import Fake
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.integration.web.client import Client
from tests.integration.web.openai.conftest import HI, Play, Stage, dsn, play

__all__ = ["HI", "Play", "Stage", "alone", "ask", "dsn", "lines", "play"]


def ask(client: Client, path: str, body: Any, **headers: str) -> Any:
    """Return the answer to a POST; `body` is any JSON value, or bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(path, data=data, headers=headers)


def lines(answer: Any) -> list[Any]:
    """Return the objects of a whole stream."""
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
def alone(runtime: Runtime) -> Any:
    """Make a client of a door nobody works behind; keyword arguments are settings."""

    def make(*models: str, **changed: Any) -> Client:
        runtime.settings = runtime.settings.model_copy(update={"local_ollama": False, **changed})
        if models:
            runtime._providers["ollama"] = Fake(models=models)
        return Client(create_app(runtime))

    return make
