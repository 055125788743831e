"""On whose behalf a request is served: the name its token stands for, and what that one may do.

The guard says so for each request. What the SDK runs for a message runs in the context of the request that brought it,
also in a session that another request opened; so `current` is right in a tool of either era.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

READ: Final = "llm:read"
SUBMIT: Final = "llm:submit"
CLOUD: Final = "llm:cloud"
ADMIN: Final = "llm:admin"
SCOPES: Final = frozenset({READ, SUBMIT, CLOUD, ADMIN})
"""What a token may be allowed: to look, to submit and cancel, to spend money in the cloud, to run the fleet."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Parameters: `name`, as the token file has it; `scopes`, what is allowed, of `SCOPES`.
    """

    name: str
    scopes: frozenset[str]


LOCAL: Final = Principal("local", SCOPES)
"""Who asks where no tokens are set up, and over stdio: the user of this machine, who may see every job."""

_current: ContextVar[Principal] = ContextVar("llm_mcp_principal", default=LOCAL)


def current() -> Principal:
    """Return the principal of the request, or of the tool call, that is being served."""
    return _current.get()


@contextmanager
def acting(principal: Principal) -> Iterator[None]:
    """Serve on behalf of `principal` while entered."""
    token = _current.set(principal)
    try:
        yield
    finally:
        _current.reset(token)
