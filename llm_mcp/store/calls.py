"""What a call waits for, read in one look."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from llm_mcp.errors import NotFound
from llm_mcp.job import Reason, Status

from .pool import Database


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands. `result` is JSON text; the last three are of its newest attempt, once that has ended."""

    kind: str
    status: Status
    reason: Reason | None
    error: str
    attempts: int
    result: str | None = field(repr=False)
    queued_ms: float | None
    """From its submission to the beginning of that attempt, ms."""
    worker_id: str | None
    metrics: dict[str, Any]


def answer(db: Database, job_id: UUID) -> Standing:
    """Return where a job stands. Raises NotFound."""
    rows = db.run("answer", {"job_id": job_id})
    if not rows:
        raise NotFound(f"no job {job_id}")
    row = rows[0]
    return Standing(
        row["kind"],
        Status(row["status"]),
        Reason(row["reason"]) if row["reason"] else None,
        row["error"] or "",
        row["attempts"],
        row["result"],
        row["queued_ms"],
        row["worker_id"],
        _object(row["metrics"]),
    )


def keyed(db: Database, key: str) -> tuple[UUID, str, Any] | None:
    """Return id, kind and payload (its JSON value) of the job an idempotency key names, None when it names none."""
    rows = db.run("keyed", {"key": key})
    return (rows[0]["id"], rows[0]["kind"], orjson.loads(rows[0]["payload"])) if rows else None


def _object(text: str | None) -> dict[str, Any]:
    """Return the object of a JSON text; workers of others may hand in anything."""
    try:
        value = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
