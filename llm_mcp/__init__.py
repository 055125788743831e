"""llm-mcp: durable, leased, streamed language-model jobs over Postgres.

The shipped actors are in `llm_mcp.actors`:

    from llm_mcp.actors import ollama
    handle = ollama.generate.submit(prompt="Why is the sky blue?")
    for event in handle.stream(): ...
    handle.wait(timeout=60)["response"]

Nothing here connects to anything when imported, and a name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client
    from .config import Settings
    from .errors import (
        Conflict,
        Cut,
        InvalidInput,
        JobFailed,
        KeyReused,
        LeaseLost,
        LlmMcpError,
        NotFound,
        ProviderError,
        QueueFull,
        SetupError,
        TooLarge,
        Unavailable,
        WaitTimeout,
    )
    from .events import Cursor, Event
    from .flow import Group, chain, group
    from .handle import JobHandle
    from .job import Attempt, Job, Reason, Status, Submission
    from .jobs import Jobs
    from .kind_actor import KindActor, actor
    from .limits import Limit, Limits, Queue, Queues
    from .run import Run
    from .runtime import Runtime
    from .schedules import Definition, Schedules, schedule
    from .store.schedules import Schedule
    from .surroundings import around

    __version__: str

__all__ = [
    "Attempt",
    "Client",
    "Conflict",
    "Cursor",
    "Cut",
    "Definition",
    "Event",
    "Group",
    "InvalidInput",
    "Job",
    "JobFailed",
    "JobHandle",
    "Jobs",
    "KeyReused",
    "KindActor",
    "LeaseLost",
    "Limit",
    "Limits",
    "LlmMcpError",
    "NotFound",
    "ProviderError",
    "Queue",
    "QueueFull",
    "Queues",
    "Reason",
    "Run",
    "Runtime",
    "Schedule",
    "Schedules",
    "Settings",
    "SetupError",
    "Status",
    "Submission",
    "TooLarge",
    "Unavailable",
    "WaitTimeout",
    "__version__",
    "actor",
    "around",
    "chain",
    "group",
    "schedule",
]

_HOMES = {
    "kind_actor": ("KindActor", "actor"),
    "client": ("Client",),
    "config": ("Settings",),
    "errors": (
        *("Conflict", "Cut", "InvalidInput", "JobFailed", "KeyReused", "LeaseLost", "LlmMcpError", "NotFound"),
        *("ProviderError", "QueueFull", "SetupError", "TooLarge", "Unavailable", "WaitTimeout"),
    ),
    "events": ("Cursor", "Event"),
    "flow": ("Group", "chain", "group"),
    "handle": ("JobHandle",),
    "job": ("Attempt", "Job", "Reason", "Status", "Submission"),
    "jobs": ("Jobs",),
    "limits": ("Limit", "Limits", "Queue", "Queues"),
    "run": ("Run",),
    "runtime": ("Runtime",),
    "schedules": ("Definition", "Schedule", "Schedules", "schedule"),
    "surroundings": ("around",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from .config import installed_version  # noqa: PLC0415 - the settings library takes 0.2 s to load

        return installed_version()
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{home}", __name__)
    return getattr(module, name)
