"""Logging: one structured line per event, with the job and worker it belongs to.

Every record carries `action`, a stable word to search for. Prompts, answers, keys and tokens are never logged.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Any

import structlog

from .config import Settings

# These say too much: request lines with addresses at INFO, every message of every actor at DEBUG.
_QUIET = {
    "httpx2": logging.WARNING,
    "httpcore2": logging.WARNING,
    "dramatiq": logging.CRITICAL,
    "psycopg.pool": logging.CRITICAL,
}


_at_work: ContextVar[Any] = ContextVar("llm_mcp_at_work", default=None)
_request: ContextVar[str | None] = ContextVar("llm_mcp_request", default=None)


def bind(lease: Any) -> None:
    """Have what this thread logs name the job of a lease (its `job_id`, `kind` and `attempt`); None: no job."""
    _at_work.set(lease)


def bind_request(request_id: str | None) -> None:
    """Have what this thread logs name the request it serves; None: it serves none."""
    _request.set(request_id)


def request_id() -> str | None:
    """Return the id of the request this thread serves, None when it serves none."""
    return _request.get()


def _name_job(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    lease = _at_work.get()
    if lease is not None:
        event = {"job_id": str(lease.job_id), "kind": lease.kind, "attempt": lease.attempt, **event}
    served = _request.get()
    if served is not None:
        event = {"request_id": served, **event}
    return event


def configure(settings: Settings) -> None:
    """Send this process's log to stderr as JSON or, on a terminal, as readable lines."""
    shared: list[Any] = [
        _name_job,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    if as_json:
        tail: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # Without local variables: prompts are among them.
        tail = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
