"""Our door as an Ollama: a server, a worker, and the embedded device behind them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import llm_mcp.actors  # noqa: F401 - what the worker can run
from llm_mcp import config
from llm_mcp import runtime as runtimes
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.worker import Worker
from tests.conftest import _database
from tests.integration.web.door import Door

from .device import Device


class Front:
    """What tests ask of as they ask of a device: `url` and `address`; `jobs`, those of its calls."""

    def __init__(self, door: Door, jobs: Jobs, device: Device) -> None:
        self.url = door.url
        self.jobs = jobs
        self.device = device
        self.door = door

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port


@contextmanager
def fronting(postgres: EmbeddedPostgres, template: str, device: Device, folder: Path) -> Iterator[Front]:
    """Put a door and a worker before a device."""
    for dsn in _database(postgres, template):
        runtime = Runtime(config.load(db_dsn=dsn, data_dir=folder, ollama_base_url=device.url, poll_s=0.2))
        runtimes.use(runtime)
        worker = Worker(runtime, threads=4)
        worker.start()
        door = Door(runtime.settings, log=folder / "web.log")
        try:
            yield Front(door, Jobs(runtime), device)
        finally:
            door.close()
            worker.drain(0.0)
            runtimes.use(None)
            runtime.close()
