"""The rows of schedules: jobs that a clock submits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from uuid import UUID

import orjson

from llm_mcp.errors import NotFound

from .pool import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class New:
    """A definition to be written: `payload` is JSON text, `next_at` its first tick."""

    name: str
    kind: str
    payload: str = field(repr=False)
    cron: str
    timezone: str
    queue: str
    priority: int
    max_attempts: int
    source: str
    next_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One schedule as the database holds it. Instants are aware."""

    name: str
    kind: str
    payload: str = field(repr=False)
    """JSON text."""
    cron: str
    timezone: str
    queue: str
    priority: int
    max_attempts: int
    source: str
    paused_at: datetime | None
    """Since when nothing is submitted; None while it is at work."""
    error: str | None
    """Why it was paused, when nobody asked for that."""
    next_at: datetime
    last_at: datetime | None
    """When a job was submitted last."""
    last_job_id: UUID | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Due:
    """A tick whose time has come: the line and zone it was counted by, and what time it was when we looked."""

    name: str
    cron: str
    timezone: str
    due_at: datetime
    now: datetime


def now(db: Database) -> datetime:
    """Return the database's time."""
    moment: datetime = db.run("clock")[0]["now"]
    return moment


def put(db: Database, new: Sequence[New]) -> dict[str, bool]:
    """Write definitions and return the names of those that changed something, each with whether it was not there."""
    rows = db.run("put_schedules", {"batch": orjson.dumps([asdict(one) for one in new]).decode()})
    return {row["name"]: row["added"] for row in rows}


def due(db: Database, *, n: int) -> list[Due]:
    """Return up to `n` ticks whose time has come."""
    return [Due(**row) for row in db.run("due_schedules", {"n": n})]


def fire(db: Database, tick: Due, *, next_at: datetime, job_id: UUID, key: str) -> UUID | None:
    """Submit the job of a tick and move its schedule on to `next_at`; None when somebody was quicker.

    Returns the job's id: of an earlier job of this key, if there is one. Raises KeyReused when that is another request.
    """
    params = {
        "name": tick.name,
        "cron": tick.cron,
        "timezone": tick.timezone,
        "due_at": tick.due_at,
        "next_at": next_at,
        "job_id": job_id,
        "key": key,
    }
    rows = db.run("fire_schedule", params)
    return rows[0]["job_id"] if rows else None


def spoil(db: Database, tick: Due, *, error: str) -> bool:
    """Pause a schedule that cannot go on, and say why; False when it is another one by now."""
    params = {
        "name": tick.name,
        "cron": tick.cron,
        "timezone": tick.timezone,
        "due_at": tick.due_at,
        "error": error,
    }
    return bool(db.run("spoil_schedule", params))


def run(db: Database, name: str, *, job_id: UUID) -> UUID:
    """Submit a job of a schedule now and return its id.

    Raises NotFound.
    """
    rows = db.run("run_schedule", {"name": name, "job_id": job_id})
    if not rows:
        raise NotFound(f"no schedule {name!r}")
    made: UUID = rows[0]["job_id"]
    return made


def pause(db: Database, name: str) -> bool:
    """Submit nothing any more; False when that is so already, or there is no such schedule."""
    return bool(db.run("pause_schedule", {"name": name}))


def resume(db: Database, name: str, *, next_at: datetime) -> bool:
    """Go on at `next_at`; False when it is not paused, or there is no such schedule."""
    return bool(db.run("resume_schedule", {"name": name, "next_at": next_at}))


def remove(db: Database, name: str) -> None:
    """Delete a schedule; its jobs stay.

    Raises NotFound.
    """
    if not db.run("remove_schedule", {"name": name}):
        raise NotFound(f"no schedule {name!r}")


def get(db: Database, name: str) -> Schedule:
    """Return one schedule.

    Raises NotFound.
    """
    rows = db.run("schedule", {"name": name})
    if not rows:
        raise NotFound(f"no schedule {name!r}")
    return Schedule(**rows[0])


def every(db: Database) -> list[Schedule]:
    """Return all schedules, by name."""
    return [Schedule(**row) for row in db.run("schedules")]
