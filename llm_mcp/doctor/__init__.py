"""What is missing, what is about to go wrong, in plain words, and how to mend it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from llm_mcp import schema
from llm_mcp.config import Settings, installed_version
from llm_mcp.embedded import postgres
from llm_mcp.errors import LlmMcpError
from llm_mcp.runtime import Runtime

from . import machine, server, ways, work
from .finding import Finding, Verdict, fail, ok, warn

__all__ = ["Finding", "Verdict", "examine"]


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each part, the database before what needs it. Changes nothing."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield ok("program", f"llm-mcp {installed_version()}, Python {python}")
    runtime = Runtime(settings)
    try:
        yield from _database(runtime)
    finally:
        runtime.close()
    yield from machine.models(settings)
    yield from machine.keys(settings)


def _database(runtime: Runtime) -> Iterator[Finding]:
    settings = runtime.settings
    if settings.db_dsn is None:
        yield from machine.embedded_postgres(settings.data_dir)
        if postgres.running_dsn(settings.data_dir) is None:
            yield warn("database", "the embedded Postgres does not run", "start everything: llm-mcp up; or set DB_DSN")
            return
    try:
        lacking = schema.missing(runtime)
    except LlmMcpError as error:
        yield fail("database", str(error), "check DB_DSN and that the server runs")
        return
    yield ok("database", "Postgres answers")
    if lacking:
        yield fail("schema", f"{len(lacking)} migrations are missing", "run: llm-mcp migrate")
        return
    yield ok("schema", "the schema is up to date")
    yield from ways.examine(runtime)
    yield from server.examine(runtime)
    yield from work.examine(runtime)
