"""Options that several commands share, and the settings they make."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from llm_mcp.config import Settings
    from llm_mcp.jobs import Jobs

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the embedded Postgres (LLM_MCP_DATA_DIR).")]
Dsn = Annotated[str | None, typer.Option("--dsn", help="A Postgres of yours, 14 or newer (DB_DSN, DATABASE_URL).")]
Http = Annotated[
    str | None, typer.Option("--http", help="HOST:PORT of the HTTP door (CORE_HTTP_ADDR) [default: 127.0.0.1:8080].")
]
Grpc = Annotated[
    str | None, typer.Option("--grpc", help="HOST:PORT of the gRPC door (CORE_GRPC_ADDR) [default: 127.0.0.1:9090].")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings(
    *,
    data_dir: Path | None = None,
    dsn: str | None = None,
    http: str | None = None,
    grpc: str | None = None,
    mcp: str | None = None,
) -> Settings:
    """Return the settings under these options. Raises SetupError."""
    from llm_mcp import config

    return config.load(data_dir=data_dir, db_dsn=dsn, http_addr=http, grpc_addr=grpc, mcp_addr=mcp)


def door(place: str) -> Callable[..., Any]:
    """Return what a door has at `module:name`: a door does not import another."""
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def quiet(chosen: Settings) -> Settings:
    """Return settings under which a short command logs nothing of its own accord, unless it was asked to say all."""
    return chosen if chosen.log_level == "DEBUG" else chosen.model_copy(update={"log_level": "CRITICAL"})


def service(*, data_dir: Path | None, dsn: str | None) -> Jobs:
    """Return the jobs service for a short command: quiet logs, and the kinds of the user's own modules known."""
    from llm_mcp import logs
    from llm_mcp import runtime as runtimes
    from llm_mcp.jobs import Jobs
    from llm_mcp.kinds import load_modules
    from llm_mcp.runtime import Runtime

    chosen = settings(data_dir=data_dir, dsn=dsn)
    logs.configure(quiet(chosen))
    runtime = Runtime(chosen)
    runtimes.use(runtime)
    load_modules(chosen.user_modules())
    return Jobs(runtime)
