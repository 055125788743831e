"""llm-mcp: durable, leased, streamed language-model jobs over Postgres.

The shipped actors are in `llm_mcp.actors`:

    from llm_mcp.actors import ollama
    handle = ollama.generate.submit(prompt="Why is the sky blue?")
    for event in handle.stream(): ...
    handle.wait(timeout=60)["response"]

Nothing here connects to anything when imported.
"""

from __future__ import annotations

from .actor import KindActor, actor
from .config import Settings, installed_version
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
    SetupError,
    TooLarge,
    Unavailable,
    WaitTimeout,
)
from .events import Cursor, Event
from .handle import JobHandle
from .job import Attempt, Job, Reason, Status, Submission
from .jobs import Jobs
from .run import Run
from .runtime import Runtime

__version__ = installed_version()

__all__ = [
    "Attempt",
    "Conflict",
    "Cursor",
    "Cut",
    "Event",
    "InvalidInput",
    "Job",
    "JobFailed",
    "JobHandle",
    "Jobs",
    "KeyReused",
    "KindActor",
    "LeaseLost",
    "LlmMcpError",
    "NotFound",
    "ProviderError",
    "Reason",
    "Run",
    "Runtime",
    "Settings",
    "SetupError",
    "Status",
    "Submission",
    "TooLarge",
    "Unavailable",
    "WaitTimeout",
    "actor",
]
