"""What a model is told when something cannot be done: one sentence it can act on, without what lies behind it.

What the core says of its own is not passed on, but for what it says of the caller's input.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from typing import Final

from mcp import MCPError
from mcp_types import INVALID_PARAMS

from llm_mcp.errors import (
    InvalidInput,
    KeyReused,
    LlmMcpError,
    ModelNotFound,
    NoProvider,
    NotFound,
    QueueFull,
    TooLarge,
    Unavailable,
)

from . import untrusted
from .core import Stopping
from .principal import current

PAID: Final = "allow_cloud=true, which costs money"
"""What a model may do, if its user agrees, where no machine of ours answers."""
SCOPE_MISSING: Final = -32003
"""The JSON-RPC code for a principal who may not do this."""

_ADDRESS = re.compile(
    r"[a-z][a-z0-9+.-]*://\S+|\[[0-9a-f:.]{2,}\](?::\d+)?|\b\d{1,3}(?:\.\d{1,3}){3}\b(?::\d+)?", re.IGNORECASE
)
_HOST_AND_PORT = re.compile(r"\b(?:localhost|[\w-]+(?:\.[\w-]+)+):\d{2,5}\b", re.IGNORECASE)
_SECRET = re.compile(r"\b(?:sk|pk|key|token|bearer|password)[-_=: ]+\S{8,}", re.IGNORECASE)


def words(error: LlmMcpError) -> str:
    """Return what a model is told of an error of ours."""
    match error:
        case TooLarge():
            return f"{_named(error)}too large: send less, or in parts"
        case InvalidInput():
            return f"{_named(error)}{public(str(error))}"
        case ModelNotFound():
            return "no model of that name can be reached: llm_models lists those that can"
        case NotFound():
            return "no such job: llm_jobs lists yours"
        case KeyReused():
            return "idempotency_key: was used for another request; take a new one"
        case NoProvider(code="no_api_key"):
            return "this model runs in the cloud, and no key for it is set up: llm_models lists what can be reached"
        case NoProvider(code="not_local"):
            return f"no machine here has this model now: try again in {_soon(error.retry_after_s)} s, or {PAID}"
        case NoProvider():
            return f"no machine with a model answers now: try again in {_soon(error.retry_after_s)} s"
        case Stopping():
            return "this server is about to stop; the job goes on: ask again in 10 s"
        case QueueFull():
            return f"too many jobs wait already: try again in {_soon(error.retry_after_s)} s"
        case Unavailable():
            return f"the core of llm-mcp does not answer: try again in {_soon(error.retry_after_s)} s"
        case _:
            return f"this cannot be done now ({error.code})"


def no_such_model(model: str, names: Iterable[str]) -> str:
    """Return what a model is told of a name that no machine of ours has; `names` are those there are."""
    near = difflib.get_close_matches(model, sorted(set(names)), n=3, cutoff=0.3)
    there = f"; nearest: {', '.join(untrusted.line(name) for name in near)}" if near else ""
    return f"model: no machine here has {untrusted.line(model, limit=80)!r}{there}. llm_models lists them all"


def public(said: str) -> str:
    """Return what a job or the core says of a failure, in one line, without addresses and what may be a secret."""
    one = untrusted.line(said, limit=400)
    for pattern in (_ADDRESS, _HOST_AND_PORT, _SECRET):
        one = pattern.sub("…", one)
    return one


def require(scope: str) -> None:
    """Raise MCPError, with the scope that is missing, unless the principal of this request has it."""
    if scope not in current().scopes:
        raise MCPError(SCOPE_MISSING, f"this needs the scope {scope}", {"requiredScopes": [scope]})


def unknown(what: str, name: str) -> MCPError:
    """Return the refusal of a tool or prompt that is not there."""
    return MCPError(INVALID_PARAMS, f"Unknown {what}: {untrusted.line(name, limit=80)}")


def _named(error: InvalidInput) -> str:
    """Return the name of the argument a core's field stands for."""
    field = error.field.removeprefix("payload.").removeprefix("payload_json.")
    return f"{untrusted.line(field, limit=80)}: " if field else ""


def _soon(retry_after_s: float) -> int:
    return max(1, math.ceil(retry_after_s))
