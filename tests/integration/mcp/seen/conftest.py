"""Fixtures: a core whose machines list models, and a stage for each era of the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from llm_mcp import config
from llm_mcp.config import Settings
from tests.integration.mcp.seen.machines import Machine
from tests.integration.mcp.seen.stage import Make, Stage, staged
from tests.integration.web.played import Player


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    """How clients connect: by the protocol of 2026-07-28, and by the handshake of those before."""
    return str(request.param)


@pytest.fixture
def anyio_backend() -> str:
    """The loop that the bridge runs in."""
    return "asyncio"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """The machine whose models can be named."""
    made = Machine("tiny:latest", "qwen3:8b", "nomic-embed-text:latest")
    with made.peer:
        yield made


@pytest.fixture(scope="module")
def rpc_settings(dsn: str, machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the core."""
    return config.load(
        db_dsn=dsn,
        data_dir=tmp_path_factory.mktemp("rpc"),
        grpc_addr="127.0.0.1:0",
        ollama_base_url=machine.peer.url,
        ollama_model="tiny",
        ollama_embed_model="nomic-embed-text",
        poll_s=0.2,
    )


@pytest.fixture
def make(bridge_settings: Settings, player: Player, era: str) -> Make:
    """Make a stage with these settings of the bridge."""
    return lambda **changed: staged(bridge_settings.model_copy(update=changed), player, era)


@pytest.fixture
async def stage(make: Make) -> AsyncIterator[Stage]:
    """A stage with the settings as they are."""
    async with make() as made:
        yield made
