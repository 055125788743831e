"""Schedules: jobs that a clock submits. Each is a row; a worker's start writes those its code declares.

@schedule("0 7 * * *", timezone="Europe/Berlin", payload={"text": "…"})
@actor("acme.summary", payload=Summary)
def summary(payload: Summary) -> dict: …
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeVar
from uuid import UUID

import uuid_utils.compat

from . import cron, strictjson
from .errors import InvalidInput, KeyReused, LlmMcpError, SetupError
from .job import Submission
from .jobs import Jobs
from .kinds import Kind
from .runtime import Runtime
from .store import schedules as rows
from .store.listen import JOB_QUEUED
from .store.schedules import Due, Schedule

log = logging.getLogger(__name__)

MAX_NAME_CHARS = 200
_BATCH = 100
_BATCHES = 10
Outcome = Literal["added", "changed", "unchanged"]


class _OfKind(Protocol):
    kind: Kind


A = TypeVar("A", bound=_OfKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a schedule is to do: everything of it that its author decides."""

    name: str
    kind: str
    cron: str
    """Minute, hour, day of month, month, day of week; six fields begin with the second."""
    timezone: str = "UTC"
    """An IANA name, such as Europe/Berlin."""
    payload: Any = field(default_factory=dict, repr=False)
    """Any JSON value."""
    priority: int = 0
    max_attempts: int = 0
    """Tries of each job at most; 0: what the kind says."""
    source: str = "schedule"


declared: dict[str, Definition] = {}
"""What the modules of this process declare, by name. Filled at import, only read afterwards."""


def schedule(
    cron: str,
    *,
    name: str | None = None,
    timezone: str = "UTC",
    payload: Any = None,
    priority: int = 0,
    max_attempts: int = 0,
) -> Callable[[A], A]:
    """Declare that jobs of an actor's kind are submitted whenever a cron line ticks.

    Only declared here: the row is written when a worker starts, and whichever worker started last is right. `name` is
    the schedule's (None: the kind's), unique in the database; `timezone` an IANA name; `payload` any JSON value (None:
    an empty object); `max_attempts`: 0 is the kind's own number. Raises InvalidInput naming the field, SetupError when
    this process declares another schedule of that name.
    """

    def declare(actor: A) -> A:
        definition = Definition(
            name=actor.kind.name if name is None else name,
            kind=actor.kind.name,
            cron=cron,
            timezone=timezone,
            payload={} if payload is None else payload,
            priority=priority,
            max_attempts=max_attempts,
        )
        _check(definition)
        strictjson.check(definition.payload, root="payload")
        actor.kind.validate(definition.payload)
        if declared.setdefault(definition.name, definition) != definition:
            raise SetupError(f"schedule {definition.name!r} is declared twice")
        return actor

    return declare


class Schedules:
    """The verbs on schedules for doors, the worker and the scheduler. Cheap to make; safe for threads."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def put(self, definition: Definition) -> Outcome:
        """Write one definition and return what that changed.

        One that stands already as it is given stays untouched, its next tick too; another line or zone has the next
        tick counted anew. A pause stays, unless it was for an error.
        Raises InvalidInput naming the field, TooLarge, Unavailable.
        """
        new = self._new(definition, rows.now(self.runtime.db))
        changed = rows.put(self.runtime.db, [new])
        return ("added" if changed[new.name] else "changed") if changed else "unchanged"

    def declare(self) -> None:
        """Write what the modules of this process declare, as `put` does; all or nothing.

        Raises SetupError naming the schedule that cannot be written, Unavailable.
        """
        if not declared:
            return
        new, now = [], rows.now(self.runtime.db)
        for name, definition in declared.items():
            try:
                new.append(self._new(definition, now))
            except InvalidInput as error:
                raise SetupError(f"schedule {name!r}: {_said(error)}") from None
        for name in rows.put(self.runtime.db, new):
            log.info("schedule declared", extra={"action": "schedule_declared", "schedule": name})

    def every(self) -> list[Schedule]:
        """Return all schedules, by name."""
        return rows.every(self.runtime.db)

    def get(self, name: str) -> Schedule:
        """Return one schedule. Raises NotFound."""
        return rows.get(self.runtime.db, name)

    def remove(self, name: str) -> None:
        """Delete a schedule; its jobs stay. One that code declares comes back with the next worker that starts.

        Raises NotFound.
        """
        rows.remove(self.runtime.db, name)

    def pause(self, name: str) -> Schedule:
        """Have it submit nothing until it is resumed, and return it. Raises NotFound."""
        rows.pause(self.runtime.db, name)
        return self.get(name)

    def resume(self, name: str) -> Schedule:
        """Have a paused schedule go on with its next tick, and return it; what it missed stays missed.

        Raises NotFound, and InvalidInput when its line or zone cannot be read.
        """
        found = self.get(name)
        next_at = cron.next_after(found.cron, found.timezone, rows.now(self.runtime.db))
        rows.resume(self.runtime.db, name, next_at=next_at)
        return self.get(name)

    def run(self, name: str) -> UUID:
        """Submit a job of a schedule now, paused or not, and return its id; its next tick stays. Raises NotFound."""
        job_id = rows.run(self.runtime.db, name, job_id=uuid_utils.compat.uuid7())
        self.runtime.notifier.notify(JOB_QUEUED)
        return job_id

    def fire(self) -> int:
        """Submit the jobs of all ticks whose time has come, and return how many; for the scheduler.

        Ticks that were missed are one job together. A schedule that cannot go on is paused with the reason and does not
        stop the others. Raises Unavailable.
        """
        fired = 0
        for _ in range(_BATCHES):
            ticks = rows.due(self.runtime.db, n=_BATCH)
            fired += sum(self._fire(tick) for tick in ticks)
            if len(ticks) < _BATCH:
                break
        if fired:
            self.runtime.notifier.notify(JOB_QUEUED)
        return fired

    def _fire(self, tick: Due) -> bool:
        due_at = tick.due_at.astimezone(UTC).isoformat()
        about = {"schedule": tick.name, "due_at": due_at}
        try:
            next_at = cron.next_after(tick.cron, tick.timezone, tick.now)
            job_id = rows.fire(
                self.runtime.db,
                tick,
                next_at=next_at,
                job_id=uuid_utils.compat.uuid7(),
                key=f"schedule:{tick.name}:{due_at}",
            )
        except (InvalidInput, KeyReused) as error:
            if rows.spoil(self.runtime.db, tick, error=_said(error)):
                log.error("schedule paused", extra={"action": "schedule_spoiled", "error": _said(error), **about})
            return False
        if job_id is not None:
            log.info("schedule fired", extra={"action": "schedule_fired", "job_id": str(job_id), **about})
        return job_id is not None

    def _new(self, definition: Definition, now: datetime) -> rows.New:
        """Refuse what must not become a row, and return what will; its first tick is the next after `now`."""
        _check(definition)
        job = Jobs(self.runtime).checked(
            Submission(
                kind=definition.kind,
                payload=definition.payload,
                priority=definition.priority,
                source=definition.source,
                max_attempts=definition.max_attempts,
            )
        )
        return rows.New(
            name=definition.name,
            kind=definition.kind,
            payload=job.payload,
            cron=" ".join(definition.cron.split()),
            timezone=definition.timezone,
            queue=job.queue,
            priority=definition.priority,
            max_attempts=job.max_attempts,
            source=definition.source,
            next_at=cron.next_after(definition.cron, definition.timezone, now),
        )


def _said(error: LlmMcpError) -> str:
    field = error.field if isinstance(error, InvalidInput) else ""
    return f"{field}: {error}" if field else str(error)


def _check(definition: Definition) -> None:
    name = definition.name
    if not (name.strip() and name.isprintable() and len(name) <= MAX_NAME_CHARS):
        raise InvalidInput(f"must be 1 to {MAX_NAME_CHARS} printable characters", field="name", code="invalid_name")
    cron.check(definition.cron, definition.timezone)
