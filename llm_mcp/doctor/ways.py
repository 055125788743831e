"""The ways to the database: what stands between, and whether locks and notices come through."""

from __future__ import annotations

from collections.abc import Iterator

from llm_mcp.errors import LlmMcpError
from llm_mcp.runtime import Runtime
from llm_mcp.store import health
from llm_mcp.store.health import Sessions

from .finding import Finding, fail, ok, warn

_PAST_IT = "set LLM_MCP_DB_DIRECT_DSN to Postgres itself"
_BOUNDS = {"statement_timeout": "30s", "lock_timeout": "2s"}


def examine(runtime: Runtime) -> Iterator[Finding]:
    """Yield how the DSNs lead to the database, and whether locks and notices hold on the way."""
    try:
        main = health.sessions(runtime.dsn)
        direct = main if runtime.direct_dsn == runtime.dsn else health.sessions(runtime.direct_dsn)
    except LlmMcpError as error:
        yield fail("sessions", str(error), "check DB_DSN and LLM_MCP_DB_DIRECT_DSN, and the pooler's pool size")
        return
    apart = runtime.settings.db_direct_dsn is not None
    if main is Sessions.SHARED:
        yield from _pooler(runtime)
    if direct is Sessions.SHARED:
        setting = "LLM_MCP_DB_DIRECT_DSN" if apart else "this DSN"
        yield fail("sessions", f"{setting} leads to a transaction pooler: notices and locks are lost in it", _PAST_IT)
        return
    if direct is Sessions.KEPT:
        yield ok("sessions", "a pooler keeps a session for each client: notices and locks hold")
    else:
        yield ok("sessions", "Postgres itself answers: notices and locks hold")
    try:
        if apart and not health.same_database(runtime.dsn, runtime.direct_dsn):
            yield fail(
                "direct DSN",
                "LLM_MCP_DB_DIRECT_DSN leads to another database or server than DB_DSN",
                "set it to the one the pooler leads to",
            )
        elif health.hears_notices(runtime.dsn, runtime.direct_dsn):
            yield ok("notices", "a notice sent is heard")
        else:
            yield warn("notices", "a notice sent was not heard: jobs are found by polling only", _PAST_IT)
    except LlmMcpError as error:
        yield warn("notices", f"could not be looked at: {error}", "")


def _pooler(runtime: Runtime) -> Iterator[Finding]:
    if runtime.settings.db_pooler is False:
        yield fail(
            "pooler",
            "DB_DSN leads to a transaction pooler and LLM_MCP_DB_POOLER says it does not: wrong statements may run",
            "leave LLM_MCP_DB_POOLER empty",
        )
        return
    yield ok("pooler", "DB_DSN leads to a transaction pooler")
    at = health.settings_at(runtime.dsn, list(_BOUNDS))
    if open_ended := [name for name in _BOUNDS if at.get(name) == "0"]:
        yield warn(
            "waits",
            f"behind the pooler nothing bounds a wait ({', '.join(open_ended)} = 0)",
            "; ".join(f"ALTER ROLE … SET {name} = '{_BOUNDS[name]}'" for name in open_ended),
        )
