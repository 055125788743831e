"""Workers in other languages, played by the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from llm_mcp.runtime import Runtime
from llm_mcp.scheduler import Scheduler
from llm_mcp.store.pool import Connection
from tests.integration.rows import rewind
from tests.integration.web.client import Client
from tests.integration.web.workers.calls import Foreign


@pytest.fixture
def sql(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as conn:
        yield conn


@pytest.fixture
def expire(dsn: str, runtime: Runtime) -> Callable[[Any], None]:
    """Let the lease of a claimed job end."""

    def end(claimed: Any) -> None:
        rewind(dsn, claimed["job"]["id"], 0.0)  # its worker was seen when it claimed, and not since
        Scheduler(runtime).sweep()

    return end


@pytest.fixture
def one(client: Client) -> Foreign:
    return Foreign(client, f"one-{uuid4().hex[:8]}")


@pytest.fixture
def two(client: Client) -> Foreign:
    return Foreign(client, f"two-{uuid4().hex[:8]}")


@pytest.fixture
def plain(client: Client) -> Foreign:
    """A worker that knows of no tokens, as those of the wire contract."""
    return Foreign(client, f"plain-{uuid4().hex[:8]}", token=False)
