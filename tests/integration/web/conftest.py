"""Fixtures over the application itself and over its real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from llm_mcp import config
from llm_mcp.config import Settings
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.conftest import _database
from tests.integration.web.client import Client
from tests.integration.web.door import Door
from tests.integration.web.played import Player


@pytest.fixture(scope="module")
def dsn(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """DSN of a database for all tests of a module: they tell their own jobs from others' by the kind."""
    yield from _database(postgres, template)


@pytest.fixture
def kind() -> str:
    """A kind nobody registered and no other test uses."""
    return f"test.{uuid4().hex}"


@pytest.fixture
def client(runtime: Runtime) -> Client:
    """A client of the application, without a server between."""
    return Client(create_app(runtime))


@pytest.fixture
def player(runtime: Runtime) -> Player:
    """A worker played by the test."""
    return Player(runtime)


@pytest.fixture
def count(dsn: str) -> Iterator[Callable[[], int]]:
    """Return how many jobs the table holds, past everything of ours."""
    with psycopg.connect(dsn, autocommit=True) as conn:

        def rows() -> int:
            found = conn.execute("SELECT count(*) FROM llm.jobs").fetchone()
            assert found is not None
            return int(found[0])

        yield rows


@pytest.fixture
def open_door(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Door]]:
    """Start web processes; each is stopped at the end. Keyword arguments that Door does not know are settings."""
    opened: list[Door] = []

    def start(*, address: str = "127.0.0.1:0", processes: int = 1, fd: int | None = None, **changed: Any) -> Door:
        chosen = settings.model_copy(update=changed)
        log = tmp_path / f"web{len(opened)}.log"
        opened.append(Door(chosen, address=address, processes=processes, fd=fd, log=log))
        return opened[-1]

    yield start
    for door in opened:
        door.close()


@pytest.fixture(scope="module")
def door(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One real server for the tests of a module that leave it as they found it."""
    folder = tmp_path_factory.mktemp("door")
    made = Door(config.load(db_dsn=dsn, data_dir=folder), log=folder / "web.log")
    yield made
    made.close()
