"""The clients of MCP: the bridge they are run against, who judges what they see, and the page that tells of them."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llm_mcp import config
from llm_mcp.config import Settings
from llm_mcp.embedded.device.catalog import ModelFile
from tests.acceptance.running import Scratch
from tests.contract.clients.trying import Matrix, Served
from tests.contract.device import running
from tests.contract.device_models import TINY, TINY_EMBED

from .judging import Judge
from .roster import CHECKS, CLIENTS

_WORDS = """\
# MCP clients

Programs that speak MCP use the models behind `llm-mcp` as tools: all they need is the bridge's address, or the command
that starts it. Each of these is run unmodified, in an environment of its own, against the running bridge with a core, a
worker and a real model behind it; what it saw is compared with what the core says of the same jobs. `make mcpclients`
does it here; generated on {when} with Python {python} and node {node}.

{table}

✓ works · ✗ does not · – the client has no such thing, or it is not checked with it.

## What is checked

{checks}

## How they are pointed at us

{uses}
{faults}"""


@contextmanager
def serving() -> Iterator[Served]:
    """Run a device with small models, and the whole product with its bridge in front of it."""
    scratch = Scratch()
    try:
        folder = scratch.path / "device"
        folder.mkdir()
        with running(folder, {"tiny": ModelFile(TINY), "tiny-embed": ModelFile(TINY_EMBED)}) as device:
            up = scratch.up(
                ollama_base_url=device.url,
                embedded_model=None,
                modules="",
                lease_s=30.0,
                log_level="WARNING",
                grpc_addr=f"127.0.0.1:{_free_port()}",
                mcp_abandon_grace_s=1.0,
            )
            with _bridge(up.settings) as url:
                yield Served(json.dumps({"url": f"{url}/mcp", "stdio": _stdio(up.settings)}), Judge(up.url))
    finally:
        scratch.close()


@contextmanager
def _bridge(settings: Settings) -> Iterator[str]:
    """Run the bridge by HTTP, and give its URL."""
    command = [sys.executable, "-m", "llm_mcp", "mcp", "--http", "127.0.0.1:0"]
    environment = config.child_environment(settings)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().rstrip("\n")
            assert line.startswith("ready mcp http://"), (line, process.poll())
            yield line.removeprefix("ready mcp ")
        finally:
            process.terminate()


def _free_port() -> int:
    """Return a port that nobody listens at, and that no connection is given."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


def _stdio(settings: Settings) -> dict[str, object]:
    """Return what a host's settings say of the bridge as a command: no more than a user would write."""
    environment = {"CORE_GRPC_ADDR": settings.grpc_addr, "LLM_MCP_ABANDON_GRACE_S": "1"}
    return {"command": str(Path(sys.executable).parent / "llm-mcp"), "args": ["mcp", "--stdio"], "env": environment}


MATRIX = Matrix("tests.contract.mcp", CLIENTS, CHECKS, "docs/mcp-clients.md", _WORDS, serving)
