"""How things look on the wire: JSON answers and the job object."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import orjson
from flask import Response, current_app

from llm_mcp.job import Job, Status
from llm_mcp.jobs import Jobs


def service() -> Jobs:
    """Return the jobs service of this application."""
    return cast("Jobs", current_app.extensions["jobs"])


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(value), status=status, headers=headers, mimetype="application/json")


def instant(at: datetime | None) -> str | None:
    """Return an instant as RFC 3339 in UTC with microseconds, e.g. `2026-11-22T07:00:31.514628Z`."""
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def job_object(job: Job, *, whole: bool = True) -> dict[str, Any]:
    """Return a job as clients see it; without payload and result when not `whole`.

    Fields without a value are left out, as the wire contract has it; ours beyond it are `reason`, `queue`, `source`,
    `worker_id`, `finished_at` and `warnings`.
    """
    optional: dict[str, Any] = {
        "reason": job.reason,
        "error": job.error or None,
        "lease_until": instant(job.lease_until),
        "deadline_at": instant(job.deadline_at),
        "finished_at": instant(job.finished_at),
        "worker_id": job.worker_id,
    }
    if whole and job.result not in (None, "null"):
        optional["result"] = orjson.Fragment(job.result)
    if job.status is Status.QUEUED and not job.served:
        optional["warnings"] = [f"no live worker serves the kind {job.kind!r}; the job waits until one comes"]
    return {
        "id": str(job.id),
        "kind": job.kind,
        **({"payload": orjson.Fragment(job.payload or "null")} if whole else {}),
        "status": job.status,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "priority": job.priority,
        "source": job.source,
        "queue": job.queue,
        "queued_at": instant(job.queued_at),
        "updated_at": instant(job.updated_at),
        **{name: value for name, value in optional.items() if value is not None},
    }
