"""A full queue over HTTP: 429, when to come again, and answers for those who only ask after their job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_mcp import config
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.integration.web.client import Client


@pytest.fixture
def full(dsn: str, tmp_path: Path, count: Callable[[], int]) -> Iterator[Client]:
    """A client of a door whose queue is full after one more job, which has the key `first`."""
    runtime = Runtime(config.load(db_dsn=dsn, data_dir=tmp_path, max_queued=count() + 1))
    client = Client(create_app(runtime))
    assert submit(client, "first").status_code == 202
    yield client
    runtime.close()


def submit(client: Client, key: str = "") -> Any:
    """Submit a job."""
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/v1/jobs", json={"kind": "nobody.here"}, headers=headers)


def test_a_full_queue_says_when_to_come_again(full: Client, count: Callable[[], int]) -> None:
    before = count()
    answer = full.post("/v1/jobs", json={"kind": "nobody.here"})
    assert answer.status_code == 429
    assert answer.json["error"] == "queue_full"
    assert "LLM_MCP_MAX_QUEUED" in answer.json["message"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert count() == before


def test_who_asks_again_with_the_key_is_answered(full: Client) -> None:
    answer = full.post("/v1/jobs", json={"kind": "nobody.here"}, headers={"Idempotency-Key": "first"})
    assert answer.status_code == 202
    assert full.post("/v1/jobs", json={"kind": "x"}, headers={"Idempotency-Key": "first"}).status_code == 422


def test_all_else_is_served(full: Client) -> None:
    full.post("/v1/jobs", json={"kind": "nobody.here"})
    assert full.get("/v1/jobs").status_code == 200
