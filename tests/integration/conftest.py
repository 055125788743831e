"""What the tests of the job's rooms share: a database for each file, emptied for each test, and ways to disturb it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_mcp import config
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.job import Lease
from llm_mcp.keeper import Keeper
from llm_mcp.run import Run
from llm_mcp.runtime import Runtime
from llm_mcp.store.pool import Connection, Database, connect
from tests.integration.proxy import Proxy
from tests.integration.rows import add, claim, emptied, shared_database

Begin = Callable[..., tuple[Keeper, Run]]


@pytest.fixture(scope="module")
def own(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """DSN of a migrated database that the tests of one file share."""
    with shared_database(postgres, template) as dsn:
        yield dsn


@pytest.fixture
def dsn(own: str) -> str:
    """DSN of that database, without a row of ours in it."""
    return emptied(own)


@pytest.fixture
def db(runtime: Runtime) -> Database:
    """The tables, past any proxy."""
    return runtime.db


@pytest.fixture
def sql(dsn: str) -> Iterator[Connection]:
    """A connection of the test's own."""
    with connect(dsn) as conn:
        yield conn


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    """A way to the database that can be disturbed."""
    with Proxy(dsn) as made:
        yield made


@pytest.fixture
def begin(proxy: Proxy, dsn: str, db: Database, tmp_path: Path) -> Iterator[Begin]:
    """Start a keeper with these settings, all its ways by the proxy, and have it hold one fresh lease.

    Only the lease tells how long: without its session a run would be cut 1.5 s after the proxy refuses.
    """
    stop: list[Callable[[], None]] = []

    def start(held: Lease | None = None, **settings: Any) -> tuple[Keeper, Run]:
        asked = {"db_dsn": proxy.dsn, "data_dir": tmp_path, "lease_s": 30.0, "liveness": False, **settings}
        runtime = Runtime(config.load(**asked))
        keeper = Keeper(
            runtime, worker_id="w", name="me", threads=4, kinds=lambda: ["echo"], on_free=threading.Event().set
        )
        keeper.start()
        stop.extend((runtime.close, keeper.stop))
        if held is None:
            add(db)
            claimed_at = time.monotonic()
            (held,) = claim(db, lease_s=runtime.settings.lease_s)
        else:
            claimed_at = time.monotonic()
        (run,) = keeper.hold([held], claimed_at=claimed_at)
        return keeper, run

    yield start
    proxy.restore()
    for action in reversed(stop):
        action()
