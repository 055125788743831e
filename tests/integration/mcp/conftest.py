"""Fixtures over a real bridge, before a real gRPC door."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_mcp.config import Settings
from llm_mcp.runtime import Runtime
from tests.integration.mcp.attended import Watched
from tests.integration.mcp.seen.machines import Machine
from tests.integration.mcp.served import Bridge
from tests.integration.rpc.conftest import certificate, dsn, kind, player, rpc_settings
from tests.integration.rpc.served import Served

__all__ = ["certificate", "dsn", "kind", "player", "rpc_settings"]


@pytest.fixture(scope="module")
def rpc(rpc_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The gRPC door for the tests of a module that leave it as they found it."""
    with Served(rpc_settings, tmp_path_factory.mktemp("log") / "rpc.log") as door:
        assert door.line.startswith("ready grpc://127.0.0.1:"), door.log.read_text()
        yield door


@pytest.fixture(scope="module")
def bridge_settings(rpc: Served, rpc_settings: Settings) -> Settings:
    """Settings of a bridge that asks that door."""
    return rpc_settings.model_copy(update={"grpc_addr": rpc.target, "mcp_addr": "127.0.0.1:0", "db_dsn": None})


@pytest.fixture(scope="module")
def served(bridge_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """One bridge for the tests of a module that leave it as they found it."""
    with Bridge(bridge_settings, tmp_path_factory.mktemp("log") / "mcp.log") as bridge:
        assert bridge.line.startswith("ready mcp http://127.0.0.1:"), bridge.log.read_text()
        yield bridge


@pytest.fixture(scope="module")
def lister() -> Iterator[Machine]:
    """A machine that lists one model."""
    made = Machine("tiny:latest")
    with made.peer:
        yield made


@pytest.fixture
def watched(rpc_settings: Settings, lister: Machine) -> Iterator[Watched]:
    """A core in this process, which can be watched, before that machine; it is served by who asks for it."""
    there = {"ollama_base_url": lister.peer.url, "ollama_model": "tiny"}
    made = Watched(Runtime(rpc_settings.model_copy(update=there)))
    yield made
    made.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where a bridge of a test's own logs to."""
    return tmp_path / "mcp.log"
