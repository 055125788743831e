"""The product's bridge with the fixtures on it, and a real core behind: processes of their own, gone at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from llm_mcp import config
from llm_mcp.config import Settings
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.store.migrate import migrate
from tests.conftest import new_scratch
from tests.integration.rpc.served import Served

_ROOT = Path(__file__).parents[2]
_STOP_S = 20.0


@contextmanager
def serving() -> Iterator[str]:
    """Run a database, the core's gRPC door and the bridge; give the URL of MCP."""
    scratch = new_scratch("conformance")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        server = stack.enter_context(EmbeddedPostgres(scratch / "data"))
        migrate(server.dsn)
        settings = config.load(
            db_dsn=server.dsn,
            data_dir=scratch,
            grpc_addr="127.0.0.1:0",
            mcp_addr="127.0.0.1:0",
            mcp_calls_per_minute=10**6,
            log_level="WARNING",
        )
        core = stack.enter_context(Served(settings, scratch / "core.txt"))
        behind = settings.model_copy(update={"grpc_addr": core.target})
        yield stack.enter_context(_bridge(behind, scratch / "bridge.txt"))


@contextmanager
def _bridge(settings: Settings, log: Path) -> Iterator[str]:
    """Run `tests.conformance.serving` and give the URL it says it serves."""
    with log.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.conformance.serving"],
            env={**config.child_environment(settings), "PYTHONPATH": os.pathsep.join([str(_ROOT)])},
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            cwd=_ROOT,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline().strip()
        if not line.startswith("ready "):
            raise RuntimeError(f"the bridge did not start: {line}\n{log.read_text()[-2000:]}")
        yield line.removeprefix("ready ")
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
