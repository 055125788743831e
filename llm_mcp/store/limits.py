"""The rows of limits (how much of a kind may run) and of paused queues. What claims make of them is in `llm.room`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import orjson

from .pool import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLimit:
    """A limit to be written: `rate` jobs begin in `per_s` seconds. None: no such limit."""

    kind: str
    max_running: int | None = None
    rate: int | None = None
    per_s: float | None = None
    burst: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How much of a kind may run, everywhere together. Instants are aware."""

    kind: str
    max_running: int | None
    """Jobs at once; None: any number."""
    rate: int | None
    """Jobs that may begin in `per_s` seconds, evenly spread; None: any number."""
    per_s: float | None
    burst: int
    """How many of them may begin at once after a quiet time."""
    running: int
    """Jobs of the kind that run now."""
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What a queue holds now. Instants are aware."""

    name: str
    queued: int
    """Jobs that wait, delayed ones and those that wait for others too."""
    running: int
    oldest_s: float | None
    """How long the first has waited that could run by now, s; None: there is none."""
    paused_at: datetime | None
    """Since when nothing is claimed from it; None: it is at work."""


def put(db: Database, new: NewLimit, *, change_running: bool, change_rate: bool) -> bool:
    """Write a limit and return whether the kind had none before; what is not to be changed stays as it is."""
    return bool(
        db.run("put_limit", {**asdict(new), "change_running": change_running, "change_rate": change_rate})[0]["added"]
    )


def declare(db: Database, new: Sequence[NewLimit]) -> list[str]:
    """Write limits of kinds that have none, and return those kinds."""
    batch = [{**asdict(one), "burst": one.burst or 1} for one in new]
    return [row["kind"] for row in db.run("declare_limits", {"batch": orjson.dumps(batch).decode()})]


def remove(db: Database, kind: str) -> bool:
    """Delete a kind's limit; False when it has none."""
    return bool(db.run("remove_limit", {"kind": kind}))


def every(db: Database) -> list[Limit]:
    """Return all limits, by kind."""
    return [Limit(**row) for row in db.run("limits")]


def pause(db: Database, name: str) -> bool:
    """Have nothing of a queue claimed; False when that is so already."""
    return bool(db.run("pause_queue", {"name": name}))


def resume(db: Database, name: str) -> bool:
    """Have a queue claimed from again; False when it is not paused."""
    return bool(db.run("resume_queue", {"name": name}))


def queues(db: Database) -> list[Queue]:
    """Return all queues that have jobs or are paused, by name. Reads all that wait: for people."""
    return [Queue(**row) for row in db.run("queues")]
