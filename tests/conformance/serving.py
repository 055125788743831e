"""The product's bridge with the fixtures on it, a process: says `ready URL` on standard output, ends when told to."""

from __future__ import annotations

import socket
import warnings

import uvicorn
from mcp.shared.exceptions import MCPDeprecationWarning

from llm_mcp import config
from llm_mcp.mcp_bridge.app import create_app
from llm_mcp.mcp_bridge.core import Core
from llm_mcp.mcp_bridge.server import create_server

from . import fixtures
from .eventstore import Kept
from .fixtures.tasks import Doings

_RETRY_MS = 100
_GRACE_S = 5


def main() -> None:
    """Serve on a free port of loopback until a signal comes."""
    # What is going out of use is served to the clients that have nothing else, so it is tested.
    warnings.filterwarnings("ignore", category=MCPDeprecationWarning)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        settings = config.load(mcp_addr=address)
        core = Core(settings)
        doings = Doings()
        server = create_server(lambda: core, settings, task_stores=[doings])
        fixtures.register(server, doings)
        app = create_app(settings, core=core, server=server, event_store=Kept(), retry_interval_ms=_RETRY_MS)
        print(f"ready http://{address}/mcp", flush=True)
        serving = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_GRACE_S)
        uvicorn.Server(serving).run(sockets=[listening])


if __name__ == "__main__":
    main()
