"""The job: one request, one row, and the statuses it moves through.

                 submit
                   │
                   ▼          claim
        ┌──────► queued ───────────────► running ──────────► done
        │          │                    │  │  │    complete
        │          │ cancel             │  │  │
        │          │ deadline           │  │  └─ cancel, deadline, last fail, last lost lease
        │          ▼                    │  │                  │
        │        error ◄────────────────┼──┼──────────────────┘
        │                               │  │
        └───────────────────────────────┴──┘
           fail (tries left), lease expired (tries left), release, requeue

A queued job may be blocked: it is not claimed before the jobs it needs (`after`) are finished.

`done` and `error` are final, but that an operator may have an error tried anew (retry). `reason` says which error it
was.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

DEFAULT_MAX_ATTEMPTS = 3
AfterError = Literal["stop", "run"]


class Status(StrEnum):
    """The four statuses clients see."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    ERROR = "error"

    @property
    def final(self) -> bool:
        """Whether a job in this status never changes again."""
        return self in (Status.DONE, Status.ERROR)


class Reason(StrEnum):
    """Why a job ended in `error`: the fate of its last attempt."""

    FAILED = "failed"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    LEASE_EXPIRED = "lease_expired"
    CRASHED = "crashed"
    DEPENDENCY_FAILED = "dependency_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a door asks for: everything of a job that its submitter decides."""

    kind: str
    payload: Any = field(default_factory=dict, repr=False)
    """Any JSON value."""
    id: UUID | None = None
    """The job's id, for those who must know it before; None: a new one."""
    priority: int = 0
    """Higher goes first; any 32-bit integer."""
    source: str = ""
    max_attempts: int = 0
    """Tries at most; 0: what the kind says."""
    deadline_at: datetime | None = None
    """Instant after which nobody wants the answer; aware."""
    delay_s: float = 0.0
    """Seconds before it may start."""
    idempotency_key: str | None = None
    unique_s: float | None = None
    """Seconds the idempotency key holds; None: as long as the job is kept."""
    result_ttl_s: float | None = None
    """Seconds the result is kept once the job is done; None: as long as the job is."""
    after: tuple[UUID, ...] = ()
    """Jobs that are to be finished before it may start: jobs that are there, or that come before it in its batch."""
    after_error: AfterError = "stop"
    """When one of them ends in error: `stop`, this one ends too (`dependency_failed`); `run`, it runs in any case."""
    principal: str | None = None
    """In whose name it is asked for, where a door tells its callers apart; None: nobody's in particular."""

    @property
    def unique_key(self) -> str | None:
        """The idempotency key as it is stored: each principal has keys of its own.

        No key that somebody may give begins with a control character, so none is another's.
        """
        if self.idempotency_key is None or self.principal is None:
            return self.idempotency_key
        both = f"{self.principal}\0{self.idempotency_key}".encode("utf-8", "surrogatepass")
        return "\x1f" + hashlib.sha256(both).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of `jobs` as its submitter sees it. Instants are aware; `payload` and `result` are JSON text."""

    id: UUID
    kind: str
    queue: str
    status: Status
    reason: Reason | None
    attempts: int
    max_attempts: int
    priority: int
    source: str
    queued_at: datetime
    updated_at: datetime
    run_at: datetime
    lease_until: datetime | None = None
    deadline_at: datetime | None = None
    finished_at: datetime | None = None
    worker_id: str | None = None
    error: str | None = None
    payload: str | None = field(default=None, repr=False)
    """None in lists, which do not carry it."""
    result: str | None = field(default=None, repr=False)
    served: bool = True
    """Whether any live worker takes this kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a job. `status` is running, done or error; `reason` the fate of one that ended in error."""

    attempt: int
    worker_id: str
    status: str
    reason: str | None
    error: str | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Lease:
    """One worker's right to one attempt of one job, named by `token`."""

    job_id: UUID
    token: int
    kind: str
    payload: str = field(repr=False)
    """JSON text."""
    attempt: int
    max_attempts: int
    tries: int
    """Attempts that count against `max_attempts`, this one included."""
    seconds_left: float | None
    """Until the job's deadline when it was claimed, s; None without one."""
