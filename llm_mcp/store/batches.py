"""Batches and their lines, one statement each. Whatever is said twice counts once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from .pool import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as it stands. `step`: of the job that drives it; `late`: whether its time is over."""

    id: UUID
    endpoint: str
    input_file_id: UUID
    status: str
    metadata: str = field(repr=False)
    """JSON text."""
    errors: str | None = field(repr=False)
    """JSON text: a list of what made it fail."""
    idempotency_key: str | None
    step: int
    expired: bool
    """Whether its time was over before it was done."""
    total: int
    completed: int
    failed: int
    output_file_id: UUID
    error_file_id: UUID
    created_at: datetime
    expires_at: datetime
    in_progress_at: datetime | None
    finalizing_at: datetime | None
    cancelling_at: datetime | None
    finished_at: datetime | None
    late: bool
    done_now: int
    """Lines whose jobs are done, which no step has noted yet; `failed_now` the same of those in error."""
    failed_now: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a batch: where its request lies in the input file (bytes), and its job's id once it has one.

    `status` is its job's, None when there is no such job.
    """

    line: int
    at: int
    bytes: int
    custom_id: str
    job_id: UUID | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a line: its line in the output or, when it `failed`, in the error file."""

    line: int
    failed: bool
    outcome: str = field(repr=False)


def add(
    db: Database,
    batch_id: UUID,
    *,
    endpoint: str,
    input_file_id: UUID,
    metadata: str,
    key: str | None,
    window_s: float,
    output_file_id: UUID,
    error_file_id: UUID,
) -> UUID:
    """Begin a batch and return its id: that of an earlier one when the key named one."""
    params: dict[str, Any] = {
        "id": batch_id,
        "endpoint": endpoint,
        "input_file_id": input_file_id,
        "metadata": metadata,
        "key": key,
        "window_s": window_s,
        "output_file_id": output_file_id,
        "error_file_id": error_file_id,
    }
    while not (rows := db.run("add_batch", params)):
        pass  # whoever used the key is just committing
    found: UUID = rows[0]["id"]
    return found


def get(db: Database, batch_id: UUID) -> Batch | None:
    """Return a batch, None when there is none of that id."""
    rows = db.run("batch", {"id": batch_id})
    return Batch(**rows[0]) if rows else None


def page(db: Database, *, n: int, before: UUID | None) -> list[Batch]:
    """Return up to `n` batches, newest first, older than `before`."""
    return [Batch(**row) for row in db.run("batches", {"n": n, "before": before})]


def driven_by(db: Database, batch_id: UUID, step: int) -> None:
    """Note that a step, or a later one, drives a batch."""
    db.run("step_batch", {"id": batch_id, "step": step})


def add_lines(db: Database, batch_id: UUID, lines: Sequence[Line]) -> None:
    """Write lines of a batch that is being validated."""
    told = [{"line": one.line, "at": one.at, "bytes": one.bytes, "custom_id": one.custom_id} for one in lines]
    db.run("add_lines", {"id": batch_id, "lines": _json(told)})


def start(db: Database, batch_id: UUID, total: int) -> None:
    """A batch was found valid, of `total` lines."""
    db.run("start_batch", {"id": batch_id, "total": total})


def fail(db: Database, batch_id: UUID, errors: Sequence[dict[str, Any]]) -> None:
    """A batch was found invalid."""
    db.run("fail_batch", {"id": batch_id, "errors": _json(errors)})


def cancel(db: Database, batch_id: UUID) -> bool:
    """Have a batch end; False when it is ending already."""
    return bool(db.run("cancel_batch", {"id": batch_id}))


def expire(db: Database, batch_id: UUID) -> None:
    """The time of a batch is over."""
    db.run("expire_batch", {"id": batch_id})


def finalize(db: Database, batch_id: UUID) -> None:
    """Every line of a batch has its outcome."""
    db.run("finalize_batch", {"id": batch_id})


def end(db: Database, batch_id: UUID) -> None:
    """The files of a batch are written."""
    db.run("end_batch", {"id": batch_id})


def waiting(db: Database, batch_id: UUID, n: int) -> list[Line]:
    """Return up to `n` lines that have no job, in order."""
    return [Line(**row) for row in db.run("waiting_lines", {"id": batch_id, "n": n})]


def take(db: Database, batch_id: UUID, jobs: dict[int, UUID]) -> set[int]:
    """Give lines the ids of the jobs they will have; return those that had none, of a batch that goes on."""
    told = [{"line": line, "job_id": str(job_id)} for line, job_id in jobs.items()]
    return {row["line"] for row in db.run("take_lines", {"id": batch_id, "lines": _json(told)}, repeatable=False)}


def running(db: Database, batch_id: UUID, n: int) -> list[Line]:
    """Return up to `n` lines that have a job's id and no outcome, in order."""
    return [Line(**row) for row in db.run("running_lines", {"id": batch_id, "n": n})]


def note(db: Database, batch_id: UUID, outcomes: Sequence[Outcome]) -> None:
    """Note outcomes; the first one of a line counts."""
    if outcomes:
        db.run("note_lines", {"id": batch_id, "lines": orjson.dumps(outcomes).decode()})


def outcomes(db: Database, batch_id: UUID, *, failed: bool, after: int, n: int) -> list[tuple[int, str]]:
    """Return up to `n` outcomes of one sort, (line, its text), beyond a line."""
    params = {"id": batch_id, "failed": failed, "after": after, "n": n}
    return [(row["line"], row["outcome"]) for row in db.run("line_outcomes", params)]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
