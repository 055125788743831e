"""`llm-mcp rpc` as a process of its own."""

from __future__ import annotations

from pathlib import Path

from llm_mcp.config import Settings
from tests.integration.serving import Serving


class Served(Serving):
    """A running gRPC door. `target` is where; `log` what it said on standard error."""

    def __init__(self, settings: Settings, log: Path) -> None:
        super().__init__("rpc", settings, log)
        self.target = self.line.removeprefix("ready grpc://")
